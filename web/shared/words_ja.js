/**
 * What the editor and the viewer say in Japanese: their own words, and the messages that Python sends, by the English. In
 * braces stand numbers and words that are put in; those with + are messages themselves.
 */

/** @type {Record<string, string>} */
export const WORDS = {
    "+ Beat": "+ プロンプト",
    "Split": "分割",
    "Duplicate": "複製",
    "Delete": "削除",
    "Fit": "全体",
    "Convert to text": "テキストに変換",
    "Undo (Ctrl+Z)": "元に戻す (Ctrl+Z)",
    "Redo (Ctrl+Y)": "やり直す (Ctrl+Y)",
    "Split the beat in two (S)": "プロンプトを二つに分割 (S)",
    "Duplicate the beat (D)": "プロンプトを複製 (D)",
    "Delete the beat (Delete)": "プロンプトを削除 (Delete)",
    "Add a beat after the selected one (A)": "選択中のプロンプトの後に追加 (A)",
    "Zoom out (-)": "縮小 (-)",
    "Show the whole film (0)": "全体を表示 (0)",
    "Zoom in (+)": "拡大 (+)",
    "Timeline": "タイムライン",
    "Plan of the run": "実行の計画",
    "Join lines": "一行にまとめる",
    "Duration": "長さ",
    "Transition": "トランジション",
    "Subject words": "被写体の語",
    "More of this beat": "このプロンプトの詳細",
    "Strength": "強さ",
    "Source": "参照元",
    "Negative prompt": "ネガティブ",
    "Seed": "シード",
    "Word weights": "語の重み",
    "default": "既定",
    "one segment": "一セグメント",
    "Length": "長さ",
    "Segments": "セグメント",
    "Sharing": "共有",
    "Keys and values": "キーと値",
    "Shared attention": "共有アテンション",
    "Extra computation": "追加の計算",
    "First step": "最初のステップ",
    "off": "オフ",
    "Subject": "被写体",
    "Draw": "表示",
    "heat": "ヒート",
    "mask": "マスク",
    "Step": "ステップ",
    "Segment": "セグメント",
    "Opacity": "不透明度",
    "Frame": "フレーム",
    "This frame only": "このフレームのみ",
    "Point": "点",
    "Choose a point: its attention map is shown after the next run": "点を選ぶと、次の実行後にそのアテンションマップを表示します",
    "Run the workflow to see where the subject was found.": "ワークフローを実行すると、被写体が見つかった場所を表示します。",
    "No beats yet. Write one prompt per line above, or add a beat.": "まだプロンプトがありません。上に一行ずつ書くか、追加してください。",
    "from Mask-Guided KV Share": "「マスク誘導 KV 共有」のもの",
    "Beat {0}": "プロンプト {0}",
    "Beat {0} is now beat {1}": "プロンプト {0} は {1} 番目になりました",
    "Beat {0} duplicated": "プロンプト {0} を複製しました",
    "Beat {0} deleted": "プロンプト {0} を削除しました",
    "Beat added": "プロンプトを追加しました",
    "The pasted text contains no beat.": "貼り付けたテキストにプロンプトがありません。",
    "The {0} pasted lines are as many beats.": "貼り付けた {0} 行は、それぞれ一つのプロンプトになりました。",
    "The server does not respond, so no plan is shown. The text is kept.": "サーバーが応答しないため、計画を表示できません。テキストは残ります。",
    "The model is unknown until it is loaded; segments of 21 latent frames are assumed.":
        "読み込むまでモデルが分からないため、21 潜在フレームのセグメントと仮定します。",
    "Step {0} of {1}, segment {2} of {3}": "ステップ {0}/{1}、セグメント {2}/{3}",
    "Convert this JSON film to the text form, which can be edited here": "この JSON の動画を、ここで編集できるテキストに変換します",
    "The next beat begins at once. gap 5f moves the beats before it further away in time":
        "次のプロンプトがすぐに始まります。gap 5f は前のプロンプトを時間的に遠ざけます",
    "The beats fade into each other, over 8f for example. Empty: over the usual overlap of segments":
        "二つのプロンプトが徐々に入れ替わります（例：8f）。空欄ならセグメントの通常の重なりを使います",
    "So many more segments turn one prompt into the next, which makes the film longer":
        "この数だけセグメントを加え、前のプロンプトを次へ移らせます。動画は長くなります",
    "The text changes from one prompt to the next within the picture, over 0.5s for example":
        "テキストがフレームごとに次のプロンプトへ変わります（例：0.5s）",
    "As Long Video Segmenter is set: num_transition_blocks, else a blend over overlap_size":
        "長尺動画セグメンターの設定どおり（num_transition_blocks、なければ overlap_size のブレンド）",
    "How much this beat attends to its source: 0 to 2. Empty: as in KV Sharing Config":
        "このプロンプトが参照元をどれだけ見るか（0〜2）。空欄なら「共有の設定」に従います",
    "Whose subject this beat shows: first, previous, none, or beat 2. Empty: as in KV Sharing Config":
        "どのプロンプトの被写体を写すか（first、previous、none、beat 2）。空欄なら「共有の設定」に従います",
    "What this beat must not show. Empty: the negative prompt of the film": "このプロンプトに出してはいけないもの。空欄なら動画全体のネガティブを使います",
    "A file and its strength: style.safetensors 0.8. Separate several with |":
        "ファイルと強さ（例：style.safetensors 0.8）。複数は | で区切ります",
    "Words of the prompt and how much they count: fox 1.5. 0 leaves them out. Separate several with |":
        "プロンプトの語と重み（例：fox 1.5）。0 でその語を無視します。複数は | で区切ります",
    "Other noise for this beat: +1, +2 and so on. Empty: that of the film":
        "このプロンプトだけ別のノイズにします（+1、+2 など）。空欄なら動画全体のノイズを使います",
    "3s, 24f (frames) or 5l (latent frames). Empty: one segment": "3s、24f（フレーム）、5l（潜在フレーム）。空欄なら一セグメント",
    "Words of the prompt that name the subject. Separate several subjects with |, or write none":
        "プロンプトの中で被写体を示す語。複数は | で区切り、なければ none と書きます",
    "How long the film is": "動画の長さ",
    "Parts that the model makes, each as long as it was trained on; neighbours overlap":
        "モデルが作る区間。長さは学習時と同じで、隣どうしは重なります",
    "Where in the model, and in which steps, segments attend to their sources": "セグメントが参照元を見るブロックとステップ",
    "Memory that the sources take until other segments have used them": "ほかのセグメントが使うまで参照元が占めるメモリ",
    "Memory that one shared attention takes beside the model's own": "共有アテンション一回がモデルとは別に使うメモリ",
    "What sharing costs on top of segments that do not share": "共有しない場合に比べて増える計算",
    "What finding the subject costs, once": "被写体を探すために一度だけかかる計算",
    "{0} frames, {1} latent": "{0} フレーム（潜在 {1}）",
    "of {0} latent frames, {1} for overlaps": "各 {0} 潜在フレーム、重なりに {1}",
    "steps unknown": "ステップは不明",
    "steps {0} of {1}": "ステップ {0}（全 {1}）",
    "none": "なし",
    "part of the noise schedule": "ノイズスケジュールの一部",
    "blocks {0}": "ブロック {0}",
    "up to {0}": "最大 {0}",
    "about {0}": "約 {0}",
    "at most {0}": "最大 {0}",
    "more {0} while a block shares": "ブロックの共有中に追加で使う {0}",
    "system RAM": "システムメモリ",
    "VRAM": "VRAM メモリ",
    "1 more evaluation": "推論が 1 回増えます",
    "{0} more evaluations": "推論が {0} 回増えます",
    "of segments, to find the subjects": "（セグメント）被写体を探すため",
    "{0}-bit numbers in {1}": "{0} ビット、{1}",
    "{0}-bit numbers in {1} up to {2}, the rest in system RAM": "{0} ビット、{1} に最大 {2}、残りはシステムメモリ",
    "Beat {0} of {1}, {2} seconds: {3}": "プロンプト {0}/{1}、{2} 秒：{3}",
    "begins with {0}": "{0} で始まる",
    "Click a place in the frame.": "フレームの中の場所をクリックしてください。",
    "Attention of the point to each part of the video": "点が動画の各部分に向けるアテンション",
    "Frame {0}: {1} of its attention to the video": "フレーム {0}：動画へのアテンションの {1}",
    "Frames {0} to {1}: {2} of its attention to the video": "フレーム {0}〜{1}：動画へのアテンションの {2}",
    "Segment {0}: the words of its prompt are not known.": "セグメント {0}：プロンプトの語が分かりません。",
    "Segment {0}, beat {1}: {2}": "セグメント {0}、プロンプト {1}：{2}",
    "Segment {0}, beat {1}, weight {2}: {3}": "セグメント {0}、プロンプト {1}、重み {2}：{3}",
    "attention to the words": "語へのアテンション",
    "words get {0} of its attention": "語はアテンションの {0} を受けます",
    "Attention between the words": "語どうしのアテンション",
    "Each row is a query word; columns show its attention to each word, in percent.":
        "各行は問い合わせる語、各列はその語が向けるアテンション（％）です。",
    "beat {0}": "プロンプト {0}",
    "from beat {0} to {1}": "プロンプト {0} から {1} へ",
    "{0}: {1}, {2} to {3}": "{0}：{1}、{2} から {3} まで",
    "all subjects": "すべての被写体",
    "attention of the point": "点のアテンション",
    "Pause (Space)": "一時停止（スペース）",
    "Play (Space)": "再生（スペース）",
    "Words that named the subject": "被写体を示した語",
    "Attention of the point to words": "点が語に向けるアテンション",
    "Connect record directly to Mask-Guided KV Share to set its look_at.":
        "look_at を設定するには、record を「マスク誘導 KV 共有」に直接接続してください。",
    "look_at is set to {0}. Run again to see its attention.": "look_at を {0} にしました。もう一度実行するとアテンションが表示されます。",
    "The images of the last run are gone. Run the workflow again.": "前回の実行の画像がありません。もう一度実行してください。",
    "last": "最後",
    "after {0}": "{0} の後",
    "{0} of {1}, {2}": "{0}/{1} フレーム、{2}",
    "The first of {0} videos": "{0} 本の動画の一本目",
    "Frame {0}, {1}": "フレーム {0}、{1}",
    "Mask: {0} of the frame": "マスク：フレームの {0}",
    "Bright areas get the most attention from the ringed point.": "明るい部分ほど、丸で示した点のアテンションを受けています。",
    "No words for this subject: it comes from a connected mask or a loaded run.":
        "この被写体には語がありません。接続したマスク、または読み込んだ実行のものです。",
    "Beat {0}, {1}: {2}": "プロンプト {0}、{1}：{2}",
    "not shown": "映りません",
    "against {0}": "{0} との比較",
    "token {0}": "トークン {0}",
    "tokens {0}": "トークン {0}",
};

/** @type {Record<string, string>} */
export const MESSAGES = {
    ["{0} would become a prompt of its own; delete it, or begin the line with # to keep it as a note; " +
        "for a prompt of these words write {1}."]:
        "{0} だけで一つのプロンプトになります。消すか、行頭に # を付けてメモにしてください。この語のプロンプトなら {1} と書いてください。",
    ["config: is_edit takes later prompts for edits of the first, but there is one prompt. Write the edited " +
        "prompt below it, with [cut] in between."]:
        "config：is_edit は後のプロンプトを最初の編集とみなしますが、プロンプトは一つだけです。その下に編集後のプロンプトを、間に [cut] を入れて書いてください。",
    ["config: is_edit takes prompts for edits of the first, but prompt {0} and the one before fade into each " +
        "other. Write [cut] between all prompts, and no loop."]:
        "config：is_edit はプロンプトを最初の編集とみなしますが、プロンプト {0} は前のものとつながっています。すべての間に [cut] を書き、ループはやめてください。",
    ["config: is_edit takes prompts for edits of the first, but prompt {0} lasts {1} latent frames and a segment " +
        "{2}, which would show another prompt too. Set sampling_num_frames in Long Video Segmenter to {3}, or make " +
        "the prompt longer."]:
        "config：is_edit はプロンプトを最初の編集とみなしますが、プロンプト {0} は {1} 潜在フレームで、セグメントは {2} あり、別のプロンプトも映ります。「長尺動画セグメンター」の sampling_num_frames を {3} にするか、プロンプトを長くしてください。",
    ["config: share_subject is off, but no subject is named, so there is nothing to tell from it. Name the " +
        "subject in Mask-Guided KV Share, or turn share_subject on."]:
        "config：share_subject がオフですが、被写体の指定がないので区別できません。「マスク誘導 KV 共有」で被写体を指定するか、share_subject をオンにしてください。",
    "subject: '{0}' is not in the prompt '{1}'. Did you mean '{2}'? Words of this prompt: {3}.":
        "被写体：「{0}」はプロンプト「{1}」にありません。「{2}」のことですか。このプロンプトの語：{3}。",
    "subject: '{0}' is not in the prompt '{1}'. Words of this prompt: {2}.":
        "被写体：「{0}」はプロンプト「{1}」にありません。このプロンプトの語：{2}。",
    "weight: '{0}' is not in the prompt '{1}'. Did you mean '{2}'? Words of this prompt: {3}.":
        "重み：「{0}」はプロンプト「{1}」にありません。「{2}」のことですか。このプロンプトの語：{3}。",
    "weight: '{0}' is not in the prompt '{1}'. Words of this prompt: {2}.":
        "重み：「{0}」はプロンプト「{1}」にありません。このプロンプトの語：{2}。",
    "weight: a word of '{0}' has another weight already. Leave one out.":
        "重み：「{0}」の語には別の重みがあります。どちらかを外してください。",
    "subject: '{0}' has no words; name what should stay the same, for example 'fox'.":
        "被写体：「{0}」に語がありません。同じに保つものを書いてください（例：fox）。",
    ["subject: it is '{0}', but the script names {1} itself; leave subject empty, or take the subjects " +
        "out of the script."]:
        "subject は「{0}」ですが、スクリプトが {1} を指定しています。subject を空にするか、スクリプトの被写体を消してください。",
    "subject: it is '{0}', but every prompt says that it shows none.": "subject は「{0}」ですが、どのプロンプトにも被写体がないと書かれています。",
    "Use '{0}' here": "ここでは「{0}」を使う",
    "Use '{0}'": "「{0}」を使う",
    "Subject: {0}": "被写体：{0}",
    "Add Mask-Guided KV Share": "「マスク誘導 KV 共有」を追加",
    "the LoRA '{0}' is not in models/loras. There are none.": "LoRA「{0}」は models/loras にありません。ファイルは一つもありません。",
    "the LoRA '{0}' is not in models/loras. There are {1}.": "LoRA「{0}」は models/loras にありません。あるのは {1} です。",
    ["No subject is named, so the whole picture is shared: about {0} computation. Name what should stay " +
        "the same."]:
        "被写体が指定されていないため、画面全体を共有します（計算量は約 {0}）。同じに保つものを指定してください。",
    ["Nothing shares: the timeline is not connected to Mask-Guided KV Share, so every prompt gets a " +
        "subject of its own."]:
        "共有されません。タイムラインが「マスク誘導 KV 共有」につながっていないため、プロンプトごとに別の被写体になります。",
    "mode is off": "mode が off です",
    "strength is 0": "strength が 0 です",
    "there is one segment only": "セグメントが一つだけです",
    "no prompt has a source": "参照元のあるプロンプトがありません",
    "no block is chosen": "ブロックが選ばれていません",
    "no step is chosen": "ステップが選ばれていません",
    ["Keys and values need about {0} GB of {1+}, and this machine has {2} GB: dtype fp8 in KV Sharing " +
        "Memory Settings halves this; a smaller width and height, sources first or previous, or fewer blocks " +
        "need less."]:
        "キーと値には {1} が約 {0} GB 必要ですが、このマシンには {2} GB しかありません。「共有のメモリ設定」の dtype fp8 で半分になります。幅と高さを小さくする、参照元を " +
        "first か previous だけにする、ブロックを減らす、でも減ります。",
    ["Keys and values need about {0} GB of {1+}, and this machine has {2} GB: a smaller width and height, " +
        "sources first or previous, or fewer blocks need less."]:
        "キーと値には {1} が約 {0} GB 必要ですが、このマシンには {2} GB しかありません。幅と高さを小さくする、参照元を first か previous " +
        "だけにする、ブロックを減らす、で減ります。",
    "system RAM": "システムメモリ",
    "VRAM": "VRAM",
    "The {0} before prompt {1} takes {2} latent frames (asked for {3}).":
        "プロンプト {1} の前の {0} は {2} 潜在フレームになります（指定は {3}）。",
    "The {0} before prompt {1} takes {2} latent frames.": "プロンプト {1} の前の {0} は {2} 潜在フレームになります。",
    ["The video is shorter than the {0} latent frames of a segment, so its segments have {1}: less than " +
        "the model was trained on."]:
        "動画がセグメントの {0} 潜在フレームより短いため、セグメントは {1} フレームです。モデルの学習時より短くなります。",
    "{0} is not used for prompt {1}: the script sets its own.": "プロンプト {1} では {0} を使いません。スクリプトが指定しています。",
    "KV Share Workers: one worker for each GPU. Enter a number in workers to see how much faster that is.":
        "複数 GPU ワーカー：GPU ごとにひとつのワーカーです。workers に数を入れると、どれだけ速くなるかがわかります。",
    "KV Share Workers: {0} evaluations in each step, with one process {1}: {2} times as fast.":
        "複数 GPU ワーカー：各ステップの計算は {0} 回、ひとつのプロセスでは {1} 回：{2} 倍の速さです。",
    "KV Share Workers: segments {0}; {1} MiB travel in each step.": "複数 GPU ワーカー：セグメント {0}。各ステップで {1} MiB を送ります。",
    ["KV Share Workers: order 'chain' samples one segment after another, so there is nothing to divide. Set order " +
        "to lockstep or sources_first in KV Sharing Config."]:
        "複数 GPU ワーカー：order 'chain' はセグメントをひとつずつサンプリングするため、分けられません。「共有の設定」で order を lockstep か sources_first にします。",
    ["KV Share Workers: segments attend to the one before them, so each worker would have to evaluate all that come " +
        "before its own, and nothing would be faster. Set sources to first in KV Sharing Config, or give prompts sources " +
        "of their own ('source: beat 1'), or remove this node."]:
        "複数 GPU ワーカー：各セグメントが前のセグメントを参照するため、どのワーカーも自分より前をすべて計算することになり、速くなりません。「共有の設定」で sources を first にするか、プロンプトに参照元（'source: beat 1'）を与えるか、このノードを外します。",
    "{0} comes from another node; {1} is assumed here.": "{0} は別のノードから来ています。ここでは {1} と仮定します。",
    "prompts comes from another node: edit it there.": "prompts は別のノードから来ています。そちらで編集してください。",
    "prompts: there is no prompt; write one per line.": "プロンプトがありません。一行に一つ書いてください。",
    ["its {0} takes {1} latent frames, but the previous prompt lasts only {2}. Shorten the {3} or " +
        "lengthen the prompt."]:
        "{0} に {1} 潜在フレームかかりますが、前のプロンプトは {2} フレームです。{3} を短くするか、プロンプトを長くしてください。",
    "overlap_size: {0} latent frames; it must be at least 0 and less than a segment's {1}.":
        "overlap_size：{0} 潜在フレーム。0 以上で、セグメントの {1} より小さくしてください。",
    ["overlap_size: {0} latent frames; segments of {1} begin {2} or more after each other, so they " +
        "overlap by at most {3}."]:
        "overlap_size：{0} 潜在フレーム。{1} フレームのセグメントは {2} 以上離れて始まるため、重なりは最大 {3} です。",
    "sampling_num_frames: {0} latent frames; videos of this model have {1&}.":
        "sampling_num_frames：{0} 潜在フレーム。このモデルの動画は {1} です。",
    ["prompts: prompt {0} ends after {1} latent frames; a film has at most {2}. Shorten its durations or " +
        "lower fps. Or make it in parts: Long Video Continue goes on from a finished one."]:
        "プロンプト {0} は {1} 潜在フレームで終わります。動画は最大 {2} です。長さを短くするか fps " +
        "を下げてください。分けて作ることもできます。「長尺動画の続き」で完成した部分から続けられます。",
    ["prompts: the film needs more than {0} segments. Raise sampling_num_frames, or lower overlap_size or " +
        "num_transition_blocks. Or make it in parts: Long Video Continue goes on from a finished one."]:
        "動画に {0} を超えるセグメントが必要です。sampling_num_frames を上げるか、overlap_size か num_transition_blocks " +
        "を下げてください。分けて作ることもできます。「長尺動画の続き」で完成した部分から続けられます。",
    "{0} is not a duration; write {1}, in s, f or latent.": "{0} は長さではありません。{1} のように s、f、latent で書いてください。",
    "{0} is not a number; write one such as 0.8.": "{0} は数ではありません。0.8 のような数を書いてください。",
    "{0} is not a whole number; write what to add to the seed, such as +5.": "{0} は整数ではありません。シードに足す数を +5 のように書いてください。",
    "{0} is not a source; write first, previous, beat 1, several joined by and, or none.":
        "{0} は参照元ではありません。first、previous、beat 1、and でつないだ複数、または none と書いてください。",
    "{0+}; a duration must be longer than zero and at most {1+}.": "{0}。長さは 0 より大きく、{1}以下にしてください。",
    "{0+}; frames are whole numbers.": "{0}。フレームは整数です。",
    "{0} is {1}; it must be between {2} and {3}.": "{0} は {1} です。{2} から {3} の間にしてください。",
    "{0} segments; write 1 to {1}.": "{0} セグメント。1 から {1} で書いてください。",
    "write how many segments, such as [segments 2].": "セグメントの数を書いてください（例：[segments 2]）。",
    "{0} is a strength without a file; write lora: style.safetensors 0.8.":
        "{0} は強さだけでファイルがありません。lora: style.safetensors 0.8 のように書いてください。",
    "{0} is not words and a weight; write weight: fox 1.5.":
        "{0} は語と重みではありません。weight: fox 1.5 のように書いてください。",
    "'{0}' is weighed twice; leave one out.": "「{0}」に重みが二つあります。どちらかを外してください。",
    "'{0}' is given twice.": "「{0}」が二回書かれています。",
    "'{0}' has no value.": "「{0}」に値がありません。",
    "no prompt is above this line; write it below the prompt that it belongs to.":
        "この行の上にプロンプトがありません。対応するプロンプトの下に書いてください。",
    "no prompt follows this transition; write one below it or leave it out.":
        "このトランジションの後にプロンプトがありません。下に書くか、取り除いてください。",
    "no beat comes before the first, so it has no transition.": "最初のプロンプトの前には何もないため、トランジションはありません。",
    "beat {0} has beat {1} as a source; sources are earlier beats, counted from 1.":
        "プロンプト {0} の参照元がプロンプト {1} です。参照元は前のプロンプトで、1 から数えます。",
    "its {0} takes {1} latent frames; it must be shorter than a segment's {2}.":
        "{0} に {1} 潜在フレームかかります。セグメントの {2} より短くしてください。",
    "{0} is neither a duration nor a transition; write {1+}, or \\[ for the character itself.":
        "{0} は長さでもトランジションでもありません。{1} のいずれか、文字そのものなら \\[ と書いてください。",
    "'[' without ']'; write {0+}, or \\[ for the character itself.": "「[」に対する「]」がありません。{0} のいずれか、文字そのものなら \\[ と書いてください。",
    "{0} is not a field; fields are {1}, as in | strength: 0.8. Write \\| for the character itself.":
        "{0} はフィールドではありません。フィールドは {1} です（例：| strength: 0.8）。文字そのものなら \\| と書いてください。",
    "'{0}' belongs to all prompts; write it on a line of its own above the first.":
        "「{0}」は全プロンプトの設定です。最初のプロンプトの上に一行で書いてください。",
    ["'{0}:' after the first prompt; write it above the prompts, or write {1}\\: for a prompt that begins " +
        "like that."]:
        "「{0}:」が最初のプロンプトより後にあります。プロンプトの上に書くか、そう始まるプロンプトなら {1}\\: と書いてください。",
    ["'{0}:' cannot begin a line; write it after a prompt: a fox | {1}: ..., or write {2}\\: for a prompt " +
        "that begins like that."]:
        "「{0}:」は行頭に書けません。プロンプトの後に a fox | {1}: ... と書くか、そう始まるプロンプトなら {2}\\: と書いてください。",
    "nothing after '|'; write one of {0}, or leave it out.": "「|」の後に何もありません。{0} のいずれかを書くか、取り除いてください。",
    "a duration without a prompt; write the prompt after it.": "長さだけでプロンプトがありません。後に書いてください。",
    "there is no prompt above this transition.": "このトランジションの上にプロンプトがありません。",
    "this is the second transition between two prompts; leave one out.": "二つのプロンプトの間にトランジションが二つあります。一つを取り除いてください。",
    "a transition needs a line of its own; write the prompt on the next one.": "トランジションは一行で書きます。プロンプトは次の行に書いてください。",
    "{0}; write loop: yes or loop: no.": "{0}。loop: yes か loop: no と書いてください。",
    "{0} after cut; write [cut] or [cut gap 5f].": "cut の後に {0} があります。[cut] か [cut gap 5f] と書いてください。",
    "{0} lacks a name or words; write subject: fox, or subject: fox = the red fox.":
        "{0} に名前か語がありません。subject: fox、または subject: fox = the red fox と書いてください。",
    ["{0} is numbered, and the number would become part of the prompt; delete the numbers, or write {1} " +
        "for a prompt that begins with one."]:
        "{0} に番号があり、プロンプトの一部になります。番号を消すか、数字で始まるプロンプトなら {1} と書いてください。",
    "{0} would become part of the prompt; write the prompt alone; for these words in a prompt write {1}.":
        "{0} がプロンプトの一部になります。プロンプトだけを書いてください。その語が必要なら {1} と書いてください。",
    ["this is a full-width character; write | and : for what a script knows; for these words in a prompt " +
        "write {0}."]:
        "全角の文字です。スクリプトの記号は半角の | と : で書いてください。その語が必要なら {0} と書いてください。",
    ["a script has no 'negative prompt:'; write negative: for all prompts, or | negative: for one; for " +
        "these words in a prompt write {0}."]:
        "「negative prompt:」はありません。全体には negative:、一つには | negative: と書いてください。その語が必要なら {0} と書いてください。",
    "fps: {0}; it must be larger than 0.": "fps：{0}。0 より大きくしてください。",
    "{0} seconds": "{0} 秒",
    "{0} latent frames": "{0} 潜在フレーム",
    "{0} frames": "{0} フレーム",
};
