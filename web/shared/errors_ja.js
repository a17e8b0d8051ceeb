/**
 * Why the editor cannot plan a film, in Japanese, by the English: what Python says of values of nodes, of models, and of mistakes
 * in a script. In braces stand numbers and words that are put in; those with + are messages themselves. Of two
 * that match, the first counts.
 */

/** @type {Record<string, string>} */
export const ERRORS = {
    "prompts, line {0}, column {1}: {2+}": "プロンプトの {0} 行 {1} 文字目：{2}",
    "prompts, {0} (beat {1}): {2+}": "プロンプトの {0}（{1} 番目）：{2}",
    "prompts, {0}: {1+}": "プロンプトの {0}：{1}",
    "Prompt {0}: {1+}": "プロンプト {0}：{1}",
    "prompt {0}: {1+}": "プロンプト {0}：{1}",
    "Mask-Guided KV Share: {0+}": "マスク誘導 KV 共有：{0}",
    "/kv_share/plan: {0+}": "/kv_share/plan：{0}",
    "Long Video Segmenter: {0+}": "長尺動画セグメンター：{0}",
    "KV Sharing Config: {0+}": "共有の設定：{0}",
    "DiTCtrl Config (paper): {0+}": "DiTCtrl 設定（論文）：{0}",
    "KV Sharing Mask Settings: {0+}": "共有のマスク設定：{0}",
    "KV Sharing Memory Settings: {0+}": "共有のメモリ設定：{0}",
    "Load Video DiT: {0+}": "動画 DiT を読み込む：{0}",
    "Load Diffusion Model: {0+}": "Load Diffusion Model：{0}",
    "Load Checkpoint: {0+}": "Load Checkpoint：{0}",
    "the plan takes longer than {0} s.": "計画の計算が {0} 秒を超えました。",
    "{0}: {1+}; it must be from {2} to {3}.": "{0}：{1}。{2} から {3} の間にしてください。",
    "{0}: {1+}; it must be a text.": "{0}：{1}。テキストにしてください。",
    "{0}: {1+}; it must be true or false.": "{0}：{1}。true か false にしてください。",
    "{0}: {1+}; it must be a whole number.": "{0}：{1}。整数にしてください。",
    "{0}: {1+}; it must be a number.": "{0}：{1}。数にしてください。",
    "{0}: {1+}; choose one of {2}.": "{0}：{1}。{2} から選んでください。",
    "a number of many digits": "桁の多い数",
    "{0} is '{1}'; choose one of {2}.": "{0} は「{1}」です。{2} から選んでください。",
    "{0} has a negative number; counts start at 0.": "{0} に負の数があります。0 から数えます。",
    "{0} is {1} and {2} is {3}; counts start at 0.": "{0} は {1}、{2} は {3} です。0 から数えます。",
    "budget_mib is {0}; it cannot be negative.": "budget_mib は {0} です。負にはできません。",
    "give both ref_token_idx and cur_token_idx, or neither.":
        "ref_token_idx と cur_token_idx は両方書くか、両方空にしてください。",
    "{0} ({1}) must be larger than {2} ({3}).": "{0}（{1}）は {2}（{3}）より大きくしてください。",
    "{0} ({1}) must be larger than {2} ({3}); use -1 for the last step.":
        "{0}（{1}）は {2}（{3}）より大きくしてください。-1 は最後のステップです。",
    "{0} ({1}) must be larger than {2} ({3}); use -1 for the last layer.":
        "{0}（{1}）は {2}（{3}）より大きくしてください。-1 は最後の層です。",
    "share_subject and share_background are both off, so nothing would be shared. Turn one on, or set mode to off.":
        "share_subject と share_background がどちらもオフなので、何も共有されません。どちらかをオンにするか、mode を off にしてください。",
    "is_edit pairs each later prompt with the first; choose order 'lockstep'.":
        "is_edit は後の各プロンプトを最初のものと組にします。order を lockstep にしてください。",
    "config: reweight_token_idx has {0}, which is a word that the script weighs. Take one out.":
        "config：reweight_token_idx の {0} は、スクリプトが重みを付ける語です。どちらかを外してください。",
    ["drift_control compares segments that are denoised together, but in order 'chain' one is finished after the " +
        "other. Set drift_control to 0, or choose another order."]:
        "drift_control は一緒にノイズを除くセグメントを比べますが、order が chain では一つずつ仕上がります。drift_control を 0 にするか、別の order を選んでください。",
    "token_dropout is {0}; it must be at least 0 and below 1.":
        "token_dropout は {0} です。0 以上 1 未満にしてください。",
    "share_text works in mode 'replace' only; own and foreign text would mix.":
        "share_text は mode が replace のときだけ使えます。ほかでは自分と参照元のテキストが混ざります。",
    "{0}: {1} is neither a number nor a range; write for example 2, 5, 25-29.":
        "{0}：{1} は数でも範囲でもありません。2, 5, 25-29 のように書いてください。",
    "{0}: {1} goes beyond {2}.": "{0}：{1} は {2} を超えています。",
    "{0}: the range {1} runs backwards.": "{0}：範囲 {1} が逆です。",
    ["config: the paper's method follows one subject, but the script names {0}; choose order 'lockstep' and another " +
        "mask_kind, or name one subject."]:
        "config：論文の手法が追う被写体は一つですが、スクリプトには {0} があります。order を lockstep にして別の mask_kind を選ぶか、被写体を一つにしてください。",
    ["it has sources of its own, but in order 'ditctrl' every segment attends to the one before; take them out, or " +
        "choose order 'lockstep'."]:
        "独自の参照元がありますが、order が ditctrl ではどのセグメントも一つ前を見ます。参照元を消すか、order を lockstep にしてください。",
    ["config: ref_token_idx gives the places of one subject, but the script names {0}; leave ref_token_idx and " +
        "cur_token_idx empty, or name one subject."]:
        "config：ref_token_idx は一つの被写体の位置ですが、スクリプトには {0} があります。ref_token_idx と cur_token_idx を空にするか、被写体を一つにしてください。",
    ["timeline: it routes the text from one prompt to the next ([route]), which this model ({0}) does not allow: it " +
        "mixes the text's tokens among themselves or with the video's. Write [blend] or [segments] instead."]:
        "timeline：テキストがフレームごとに次のプロンプトへ変わります（[route]）が、このモデル（{0}）ではできません。テキストのトークンどうし、または動画のトークンと混ざるためです。[blend] か [segments] を使ってください。",
    ["config: its blocks were measured on {0+}, but this model is {1+}. Load a preset of this model, or measure it " +
        "with KV Sharing Probe."]:
        "config：ブロックは {0}で測ったものですが、このモデルは {1}です。このモデルのプリセットを読み込むか、「共有プローブ」で測ってください。",
    "{0} with {1} blocks": "{0}（{1} ブロック）",
    "config: {0} asks for block {1}, but this model has blocks 0 to {2}.":
        "config：{0} がブロック {1} を指していますが、このモデルのブロックは 0 から {2} です。",
    "subject: '{0}' has {1} words; name what should stay the same with at most {2}.":
        "被写体：「{0}」は {1} 語です。同じに保つものを {2} 語以内で書いてください。",
    "sampling_num_frames: {0} latent frames; a segment needs at least 1.":
        "sampling_num_frames：{0} 潜在フレーム。セグメントには 1 以上が必要です。",
    "{0}: {1} segments; it must be at least 0.": "{0}：{1} セグメント。0 以上にしてください。",
    ["loop: this model encodes its video in groups of {0} latent frames, with which a loop cannot go round. Take " +
        "loop out of the script."]:
        "loop：このモデルは動画を {0} 潜在フレームの組で符号化するため、ループにできません。スクリプトから loop を消してください。",
    ["prompts: there are {0} prompts; a film has at most {1}. Leave some out. Or make it in parts: Long Video " +
        "Continue goes on from a finished one."]:
        "プロンプトが {0} あります。動画は最大 {1} です。いくつか減らしてください。分けて作ることもできます。「長尺動画の続き」で完成した部分から続けられます。",
    ["sampling_num_frames: {0} latent frames; a segment has at most {1}. Write 0 for the length that the model was " +
        "trained on."]:
        "sampling_num_frames：{0} 潜在フレーム。セグメントは最大 {1} です。0 と書くとモデルの学習時の長さになります。",
    "fps: {0}; it must be at most {1}.": "fps：{0}。{1} 以下にしてください。",
    "longer_mid_segment: it must be at most {0} segments.":
        "longer_mid_segment：{0} セグメント以下にしてください。",
    ["prompts: the script names {0} subjects; a film has at most {1}. Give what is the same in several prompts one " +
        "name, as in subject: fox = the red fox."]:
        "スクリプトに被写体が {0} あります。動画は最大 {1} です。複数のプロンプトで同じものは一つの名前にしてください（例：subject: fox = the red fox）。",
    ["prompts: too many prompts change by route within one segment. Lower sampling_num_frames, or write [blend] or " +
        "[cut] between some of them."]:
        "一つのセグメントの中で route で変わるプロンプトが多すぎます。sampling_num_frames を下げるか、いくつかの間を [blend] か [cut] にしてください。",
    ["the model is a {0}, but KV Share works with models of these families: {1}. Load one of those."]:
        "モデルは {0} ですが、KV Share が対応するモデルのファミリーは {1} です。このいずれかを読み込んでください。",
    ["the model is a UNet with layers over time (Stable Video Diffusion), which is not prompted by text: it animates " +
        "one picture, so there are no words of a subject and no prompts to share between. Load a video diffusion " +
        "transformer, or an SD 1.x, 2.x or SDXL model for stills."]:
        "モデルは時間の層を持つ UNet（Stable Video Diffusion）で、テキストで指示せず一枚の画像を動かします。そのため被写体の語も、共有するプロンプトもありません。" +
        "動画 Transformer を読み込むか、静止画には SD 1.x、2.x、SDXL のモデルを読み込んでください。",
    ["the model is a UNet without attention to text, in which nothing can be shared. Load an SD 1.x, 2.x or SDXL " +
        "model."]:
        "モデルはテキストへのアテンションのない UNet で、共有できるものがありません。SD 1.x、2.x、SDXL のモデルを読み込んでください。",
    ["this is a causal Wan model (Self-Forcing), which makes the video piece by piece with a memory of keys of its " +
        "own, so it cannot be cut into segments. Load the Wan model that it was made from."]:
        "これは因果的な Wan モデル（Self-Forcing）で、独自のキーの記憶を使って動画を少しずつ作るため、セグメントに分けられません。元になった Wan モデルを読み込んでください。",
    ["this is {0}, which takes reference images and poses in an order of its own that KV Share does not know yet. " +
        "Load Wan Animate or VACE."]:
        "これは {0} で、参照画像とポーズを独自の順序で使うため、KV Share はまだ対応していません。Wan Animate か VACE を読み込んでください。",
    ["this is Wan Animate 2, which attends to its pose video and its reference in calls of its own for every frame, " +
        "and KV Share does not know them yet. Load Wan Animate or VACE."]:
        "これは Wan Animate 2 で、フレームごとに独自の呼び出しでポーズ動画と参照を見るため、KV Share はまだ対応していません。Wan Animate か VACE を読み込んでください。",
    ["this is WanDancer, which follows music over the whole video, and music is not cut into segments. Load another " +
        "Wan model."]:
        "これは WanDancer で、動画全体で音楽に従いますが、音楽はセグメントに分けられません。別の Wan モデルを読み込んでください。",
    ["this is Wan S2V, and this version of ComfyUI does not let other nodes change its attention. Update ComfyUI, " +
        "or load HuMo for video from audio."]:
        "これは Wan S2V ですが、この版の ComfyUI では、ほかのノードがそのアテンションを変えられません。ComfyUI を更新するか、音声からの動画には HuMo を読み込んでください。",
    ["[3s] or [24f] or [5 latent] for a duration, [0:00-0:05] for a time, [cut], [cut gap 5f], [blend 8f], " +
        "[segments 2] or [route 0.5s] for a transition"]:
        "[3s]、[24f]、[5 latent]（長さ）、[0:00-0:05]（時刻）、[cut]、[cut gap 5f]、[blend 8f]、[segments 2]、[route 0.5s]（トランジション）",
    "half of a character, as a cut emoji leaves it; delete it.": "文字の半分です（途中で切れた絵文字など）。消してください。",
    "{0} is a fence of Markdown; delete it, and its counterpart at the end.":
        "{0} は Markdown の囲みです。末尾の対応する行とともに消してください。",
    "JSON begins here, but the text above it is not JSON; delete what is above.":
        "ここから JSON ですが、上のテキストは JSON ではありません。上を消してください。",
    "a list of JSON begins here, which is no film; write {0}.":
        "ここから JSON のリストですが、動画ではありません。{0} と書いてください。",
    "a script has no 'positive prompt:'; write the prompt alone; for these words in a prompt write {0}.":
        "「positive prompt:」はありません。プロンプトだけを書いてください。その語が必要なら {0} と書いてください。",
    "{0} are another program's settings; delete them.": "{0} は別のプログラムの設定です。消してください。",
    ["this is part of a JSON text whose beginning is not here; begin with { and nothing above it; for these words " +
        "in a prompt write {0}."]:
        "JSON の一部ですが、始まりがありません。「{」で始め、上には何も書かないでください。その語が必要なら {0} と書いてください。",
    ["prompts: there is no prompt; write one per line. 'prompt:' is the beginning of every prompt, which then needs " +
        "a line below."]:
        "プロンプトがありません。一行に一つ書いてください。「prompt:」はすべてのプロンプトの始まりで、その下に行が必要です。",
    "only prompts have fields; write \\| for the character itself.":
        "フィールドがあるのはプロンプトだけです。文字そのものなら \\| と書いてください。",
    "{0} could be a time or a duration; write [3s] for a duration, or [0:00-0:03] for a start and an end.":
        "{0} は時刻とも長さとも読めます。長さなら [3s]、始まりと終わりなら [0:00-0:03] と書いてください。",
    ["{0} needs prompts before it that all have durations in seconds, and no [segments], which add time; write a " +
        "duration such as [3s]."]:
        "{0} には、前のプロンプトすべてに秒の長さがあり、時間を足す [segments] がないことが必要です。[3s] のような長さを書いてください。",
    "begins at {0} seconds, but the prompts before it last {1} seconds; prompts follow each other without a gap.":
        "{0} 秒から始まりますが、前のプロンプトは計 {1} 秒です。プロンプトの間に空きはありません。",
    ["{0} is not a field; fields are {1}, as in | strength: 0.8. Write \\| for the character itself. A choice such " +
        "as {red|blue} is not made here: write every prompt on a line of its own."]:
        "{0} はフィールドではありません。フィールドは {1} です（例：| strength: 0.8）。文字そのものなら \\| と書いてください。{red|blue} のような選択はしません。プロンプトを一行ずつ書いてください。",
    "'none' says that there is no subject; leave it or the other subjects out.":
        "「none」は被写体がないという意味です。これか、ほかの被写体を消してください。",
    "{0} without '%'; write until 20%.": "{0} に「%」がありません。until 20% のように書いてください。",
    "there is no text before 'until'.": "「until」の前にテキストがありません。",
    "a source is given twice.": "参照元が二回書かれています。",
    "'{0}' is not a name for a subject; choose one without '=', and not 'none'.":
        "「{0}」は被写体の名前になりません。「=」を含まず、「none」でない名前にしてください。",
    "'{0}' belongs to all beats, so its source can only be first or previous; name another source after a later prompt.":
        "「{0}」は全プロンプトのものなので、参照元は first か previous だけです。ほかの参照元は後のプロンプトに書いてください。",
    "there are two subjects '{0}'; give one another name, such as other = {1}.":
        "被写体「{0}」が二つあります。一方を other = {1} のように別の名前にしてください。",
    "{0+}; a text that begins with '{' is read as JSON, a prompt that does begins with \\{.":
        "{0}。「{」で始まるテキストは JSON として読みます。「{」で始まるプロンプトは \\{ と書いてください。",
    ["{0+}; a text that begins with '{' is read as JSON, a prompt that does begins with \\{. A choice " +
        "such as {red|blue} is not made here: write every prompt on a line of its own."]:
        "{0}。「{」で始まるテキストは JSON として読みます。「{」で始まるプロンプトは \\{ と書いてください。{red|blue} のような選択はしません。プロンプトを一行ずつ書いてください。",
    "Expecting value": "値がありません",
    "Expecting property name enclosed in double quotes": "二重引用符で囲んだ名前がありません",
    "Expecting '{0}' delimiter": "「{0}」がありません",
    "Extra data": "終わりの後に余分な内容があります",
    "Unterminated string starting at": "ここから始まる文字列が終わっていません",
    "Invalid control character at": "使えない制御文字があります",
    "Invalid \\escape": "\\ の後が正しくありません",
    "Invalid \\uXXXX escape": "\\uXXXX が正しくありません",
    "Illegal trailing comma before end of {0}": "終わりの前に余分なコンマがあります",
    "prompts: the JSON has too many nested brackets.": "JSON の括弧の入れ子が深すぎます。",
    "prompts: the JSON has a number that is too long to read.": "JSON に長すぎて読めない数があります。",
    "prompts: an object has {0} twice; leave one out.": "一つのオブジェクトに {0} が二回あります。一方を消してください。",
    "prompts: {0} is not a number that a script can use.": "{0} はスクリプトで使えない数です。",
    "prompts: '{0}' is missing; the least is {1}.": "「{0}」がありません。最低限 {1} と書いてください。",
    "must be an object with {0}.": "{0} を持つオブジェクトにしてください。",
    "is unknown; write one of {0}.": "この名前はありません。{0} のいずれかを書いてください。",
    "must be a list.": "リストにしてください。",
    "must be text.": "テキストにしてください。",
    "must be a number.": "数にしてください。",
    "is too large.": "大きすぎます。",
    "must be a whole number of at most 15 digits.": "15 桁以内の整数にしてください。",
    "must be true or false.": "true か false にしてください。",
    "is {0}; this is read as version {1} only.": "{0} です。読めるのはバージョン {1} だけです。",
    "has no prompt.": "プロンプトがありません。",
    "has no name.": "名前がありません。",
    "has no file.": "ファイルがありません。",
    "has no {0}; write {1}.": "{0} がありません。{1} と書いてください。",
    "must have one unit, such as {0}.": "単位を一つ書いてください（例：{0}）。",
    "kind must be one of {0}.": "kind は {0} のいずれかにしてください。",
    "must be \"first\", \"previous\" or the number of a beat, counted from 1.":
        "first、previous、または 1 から数えたプロンプトの番号にしてください。",
    "a {0} has no duration; only blend and route have one.": "{0} に長さはありません。長さがあるのは blend と route だけです。",
    "a {0} has no gap; only a cut has one.": "{0} に gap はありません。gap があるのは cut だけです。",
    "a {0} has no segments.": "{0} にセグメントはありません。",
    "it needs a common prompt, whose end it sets.": "共通プロンプトの終わりを決めるものなので、共通プロンプトが必要です。",
    "there is no prompt; write at least one.": "プロンプトがありません。一つ以上書いてください。",
    "{0} must not be empty.": "{0} は空にできません。",
    "{0} must not begin or end with a space or an invisible mark.": "{0} の先頭と末尾に空白や見えない文字は置けません。",
    "{0} must not have a line break.": "{0} の中では改行できません。",
    "{0} must not have a carriage return; write line breaks as line feeds.": "{0} に復帰文字は使えません。改行は LF で書いてください。",
    "{0} must not have half a surrogate pair, which is not a character.": "{0} に文字の半分があります（途中で切れた絵文字など）。消してください。",
    "the request is larger than {0} MiB.": "リクエストが {0} MiB を超えています。",
    "the graph has more than {0} nodes.": "ワークフローのノードが {0} 個を超えています。",
    "the plan is larger than {0} MiB: shorten the film.": "計画が {0} MiB を超えています。動画を短くしてください。",
};
