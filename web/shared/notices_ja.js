/**
 * What a run says of itself in Japanese, by the English (kvshare_core/host/sampling/notices.py). In braces stand numbers and
 * words that are put in; those with + are messages themselves, those with & names, or a message.
 */

/** What stands between names of a list. */
export const BETWEEN_NAMES = "、";

/** @type {Record<string, string>} */
export const NOTICES = {
    "nothing was shared, for the reason above.": "何も共有されませんでした。理由は上のとおりです。",
    "nothing was shared: {0+}": "何も共有されませんでした：{0}",
    "only {0} of {1} steps shared, for the reason above.": "{1} ステップのうち {0} だけが共有しました。理由は上のとおりです。",
    "only {0} of {1} steps shared: {2+}": "{1} ステップのうち {0} だけが共有しました：{2}",
    "only {0} of {1} blocks shared in {2} of {3} steps, for the reason above.":
        "{3} ステップ中 {2} では、{1} ブロックのうち {0} だけが共有しました。理由は上のとおりです。",
    "only {0} of {1} blocks shared in {2} of {3} steps: {4+}":
        "{3} ステップ中 {2} では、{1} ブロックのうち {0} だけが共有しました：{4}",
    ["none of this run's steps is among those that the configuration names. Change start_percent, end_percent or " +
        "step_idx in KV Sharing Config, or the steps of the sampler."]:
        "設定で指定されたステップが、この実行にはありません。「共有の設定」の start_percent、end_percent、step_idx か、サンプラーのステップ数を変えてください。",
    ["the subject was found in the last step that was to share, and masks are used from the next one on. Give the " +
        "sampler more steps, or widen start_percent and end_percent in KV Sharing Config."]:
        "被写体が見つかったのは共有する最後のステップで、マスクは次のステップから使われます。サンプラーのステップ数を増やすか、「共有の設定」の start_percent " +
        "から end_percent までを広げてください。",
    ["{0&} answered in place of the model, so a segment neither attended to others nor gave them its keys, and it may " +
        "have been given what another segment left. Take it off the model."]:
        "モデルの代わりに答えたノードがあります（{0}）。そのためセグメントはほかを見ず、キーも渡しませんでした。ほかのセグメントが残した結果を受け取った可能性もあります。" +
        "モデルから外してください。",
    "{0&} answered in place of the model. Take it off the model, or let it begin after the steps that share.":
        "モデルの代わりに答えたノードがあります（{0}）。モデルから外すか、共有するステップの後から始めさせてください。",
    "{0&} skipped the other steps. Take it off the model, or let it begin after the steps that share.":
        "ほかのステップが飛ばされました（{0}）。飛ばしたノードをモデルから外すか、共有するステップの後から始めさせてください。",
    "{0&} left blocks of the model out. Take it off the model.":
        "モデルのブロックの一部が省かれました（{0}）。省いたノードをモデルから外してください。",
    "segments that others attend to were left out. Take nodes off the model that skip evaluations.":
        "ほかのセグメントの参照元が省かれました。推論を飛ばすノードをモデルから外してください。",
    "the subject was not found. Name it in Mask-Guided KV Share by other words of the prompt, or connect a mask.":
        "被写体が見つかりませんでした。「マスク誘導 KV 共有」でプロンプトの別の語を指定するか、マスクを接続してください。",
    "no two segments show the same subject. Name a subject that several prompts have.":
        "同じ被写体が映るセグメントが二つありません。複数のプロンプトにある被写体を指定してください。",
    ["{0&} keeps what the model returned last for the whole film, but a film is evaluated segment by segment, so that " +
        "each segment is given what another left. Take it off the model; EasyCache and LazyCache of ComfyUI can stay."]:
        "{0} はモデルの直前の結果を動画全体で一つだけ保持しますが、動画の推論はセグメントごとなので、あるセグメントに別のセグメントの結果が渡ります。" +
        "モデルから外してください。ComfyUI の EasyCache と LazyCache はそのままで構いません。",
    ["{0&} keep what the model returned last for the whole film, but a film is evaluated segment by segment, so that " +
        "each segment is given what another left. Take them off the model; EasyCache and LazyCache of ComfyUI can stay."]:
        "{0} はモデルの直前の結果を動画全体で一つずつ保持しますが、動画の推論はセグメントごとなので、あるセグメントに別のセグメントの結果が渡ります。" +
        "どれもモデルから外してください。ComfyUI の EasyCache と LazyCache はそのままで構いません。",
    ["{0&} is still in the loaded model, where it replaced the model's own function when its node last ran. Remove " +
        "that node if it is there, then restart ComfyUI."]:
        "{0} が読み込み済みのモデルに残っています。前回の実行でモデル自身の関数を置き換えたためです。そのノードがあれば削除し、ComfyUI を再起動してください。",
    ["{0&} are still in the loaded model, where they replaced the model's own functions when their nodes last ran. " +
        "Remove those nodes if they are there, then restart ComfyUI."]:
        "{0} が読み込み済みのモデルに残っています。前回の実行でそれぞれモデル自身の関数を置き換えたためです。それらのノードがあれば削除し、ComfyUI を再起動してください。",
    "another node, such as a step cache,": "ステップキャッシュなどの別のノード",
    "another node, of {0&},": "{0} の別のノード",
    "Another node, of {0&},": "{0} の別のノード",
    "another node": "別のノード",
    "Another node": "別のノード",
    "out of memory; keys and values stay in system RAM from here on.":
        "メモリが足りません。ここからキーと値はシステムメモリに置きます。",
    "out of memory; keys and values are kept in fp8 from here on, which changes the video slightly.":
        "メモリが足りません。ここからキーと値を fp8 で保持するため、動画がわずかに変わります。",
    "out of memory; shared attention is computed in smaller pieces from here on.":
        "メモリが足りません。ここから共有アテンションを小さく分けて計算します。",
    ["the conditioning does not come from Long Video Segmenter; its subject cannot be followed. Connect the " +
        "segmenter's, or a mask to Mask-Guided KV Share."]:
        "条件付けが「長尺動画セグメンター」のものではないため、被写体を追えません。セグメンターのものを接続するか、「マスク誘導 KV 共有」にマスクを接続してください。",
    ["another node evaluates conditioning of its own; it is left unshared. Connect the conditioning of Long Video " +
        "Segmenter alone."]:
        "別のノードが独自の条件付けで推論しています。その部分は共有しません。「長尺動画セグメンター」の条件付けだけを接続してください。",
    ["conditioning for a part of the frame is left unshared. Connect the conditioning of Long Video Segmenter " +
        "alone."]:
        "画面の一部だけの条件付けは共有しません。「長尺動画セグメンター」の条件付けだけを接続してください。",
    ["negative conditioning was evaluated before the prompt's or together with another's; it is left unshared " +
        "there."]:
        "ネガティブの条件付けが、プロンプトより先に、またはほかの条件付けと一緒に推論されました。そこでは共有しません。",
    "the sampler's noise is not that of its seed, so the seeds of single prompts are ignored.":
        "サンプラーのノイズがそのシードのものではないため、プロンプトごとのシードは無視します。",
    ["the model takes an image, but prompt {0} begins without one, so what it shows is made up. Give it one with Long " +
        "Video Beat Images."]:
        "このモデルは画像を使いますが、プロンプト {0} の始まりに画像がないため、映るものはモデルが作ります。「長尺動画の場面画像」で画像を与えてください。",
    "hiding the subject's words changed nothing in segment {0}; it is not followed there.":
        "セグメント {0} では被写体の語を隠しても何も変わりませんでした。そこでは被写体を追いません。",
    "the prompt has more tokens than the model received; its subject cannot be followed.":
        "プロンプトのトークンがモデルの受け取った数より多いため、被写体を追えません。",
    "the prompt has no tokens but those of the subject; its subject cannot be followed.":
        "プロンプトに被写体以外のトークンがないため、被写体を追えません。",
    "{0}: attention comes with a mask that hides video or depends on the query; {1+}":
        "{0}：アテンションに、動画を隠す、またはクエリごとに異なるマスクが付いています。{1}",
    "it is left unshared. Take off guide frames, or the node that adds the mask.":
        "ここでは共有しません。ガイドフレームか、マスクを加えるノードを外してください。",
    "its subject is not read.": "被写体を読み取りません。",
    "its subject cannot be followed.": "被写体を追えません。",
    "its prompts are left unrouted.": "プロンプトはフレームごとに変わりません。",
    "the words of its prompt are left unweighed.": "プロンプトの語の重みを変えません。",
    "the prompt has more tokens than the model received; its words are left unweighed.":
        "トークンがモデルの受け取った数より多いため、語の重みを変えません。",
    "every word of the prompt has weight 0; its words are left unweighed.": "すべての語の重みが 0 なので、語の重みを変えません。",
    "the words of a prompt are not known, so there are no maps of them. Encode prompts by Long Video Segmenter.":
        "プロンプトの語が分からないため、語へのアテンションマップはありません。プロンプトは「長尺動画セグメンター」でエンコードしてください。",
    ["{0}: an attention call {1+}; it is left unshared. {2+} makes it, or a newer ComfyUI. Take that node off the " +
        "model, or update KV Share."]:
        "{0}：アテンションの呼び出し{1}。共有しません。{2}か、新しい ComfyUI によるものです。そのノードをモデルから外すか、KV Share を更新してください。",
    "does not begin with query, key and value": "がクエリ、キー、値で始まっていません",
    "has {0} arguments without a name": "に名前のない引数が {0} 個あります",
    "does not say how many heads it has": "にヘッドの数がありません",
    "has a mask of another kind": "のマスクの種類が違います",
    "has a scale of another kind": "のスケールの種類が違います",
    "has tensors of other shapes": "のテンソルの形が違います",
    "{0}: an attention call has {1+}. {2+} adds or changes it; {3+}.":
        "{0}：アテンションの呼び出しが合いません（{1}）。{2}が加えたか変えたものです。{3}。",
    "only that call is left unshared": "その呼び出しだけを共有しません",
    "this model, whose calls can only be counted, is left unshared. Take that node off the model":
        "このモデルの呼び出しは数えることしかできないため、モデル全体を共有しません。そのノードをモデルから外してください",
    "and as it could be the model's own, its block is left unshared. Take that node off the model":
        "モデル自身のものかもしれないため、そのブロックを共有しません。そのノードをモデルから外してください",
    "no place among those that the model's own blocks make": "モデル自身のブロックの呼び出しにない",
    "no block to belong to": "属するブロックがない",
    "no layout of its sequence": "系列のレイアウトがない",
    "no mask over its {0} keys, as many as video and text tokens each":
        "キー {0} 個にマスクがなく、動画とテキストのトークンもそれぞれ同じ数",
    "a mask, which self-attention over a video without guides does not have":
        "ガイドのない動画の自己アテンションにはないマスクがある",
    "{0} batch rows where the evaluation has {1}": "バッチが {0} 行、推論は {1} 行",
    "{0} tokens instead of {1} ({2})": "トークンが {0} 個、正しくは {1}（{2}）",
    "{0} tokens of {1+} instead of {2}": "{1}のトークンが {0} 個、正しくは {2}",
    "{0} queries and {1} keys in a joint attention": "結合アテンションにクエリが {0} 個、キーが {1} 個",
    "{0} query and {1} key tokens instead of {2} and {3}":
        "クエリが {0} トークン、キーが {1} トークン、正しくは {2} と {3}",
    "{0} query and {1} key tokens where the text has {2}": "クエリが {0} トークン、キーが {1} トークン、テキストは {2}",
    "{0} query tokens where the video has {1} and reference images {2}":
        "クエリが {0} トークン、動画は {1}、参照画像は {2}",
    "{0} query tokens where the {1+} has {2}": "クエリが {0} トークン、{1}は {2}",
    "{0} key tokens where a frame's audio has {1}": "キーが {0} トークン、フレームの音声は {1}",
    "{0} key tokens where the {1+} has {2}": "キーが {0} トークン、{1}は {2}",
    "{0} key tokens in a self-attention over {1}": "{1} トークンの自己アテンションにキーが {0} トークン",
    "{0} key tokens in a cross-attention to {1} text tokens": "テキスト {1} トークンへの交差アテンションにキーが {0} トークン",
    "heads of {0} channels where {1+} attends to {2+} with {3}": "ヘッドが {0} チャンネル、{1}から{2}へは {3}",
    "video": "動画",
    "text": "テキスト",
    "audio": "音声",
};
