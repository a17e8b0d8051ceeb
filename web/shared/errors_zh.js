/**
 * Why the editor cannot plan a film, in Chinese, by the English: what Python says of values of nodes, of models, and of mistakes
 * in a script. In braces stand numbers and words that are put in; those with + are messages themselves. Of two
 * that match, the first counts.
 */

/** @type {Record<string, string>} */
export const ERRORS = {
    "prompts, line {0}, column {1}: {2+}": "提示词第 {0} 行第 {1} 列：{2}",
    "prompts, {0} (beat {1}): {2+}": "提示词的 {0}（第 {1} 条）：{2}",
    "prompts, {0}: {1+}": "提示词的 {0}：{1}",
    "Prompt {0}: {1+}": "提示词 {0}：{1}",
    "prompt {0}: {1+}": "提示词 {0}：{1}",
    "Mask-Guided KV Share: {0+}": "遮罩引导 KV 共享：{0}",
    "/kv_share/plan: {0+}": "/kv_share/plan：{0}",
    "Long Video Segmenter: {0+}": "长视频分段器：{0}",
    "KV Sharing Config: {0+}": "共享配置：{0}",
    "DiTCtrl Config (paper): {0+}": "DiTCtrl 配置（论文）：{0}",
    "KV Sharing Mask Settings: {0+}": "共享遮罩设置：{0}",
    "KV Sharing Memory Settings: {0+}": "共享内存设置：{0}",
    "Load Video DiT: {0+}": "加载视频 DiT：{0}",
    "Load Diffusion Model: {0+}": "Load Diffusion Model：{0}",
    "Load Checkpoint: {0+}": "Load Checkpoint：{0}",
    "the plan takes longer than {0} s.": "计划的计算超过 {0} 秒。",
    "{0}: {1+}; it must be from {2} to {3}.": "{0}：{1}；必须在 {2} 到 {3} 之间。",
    "{0}: {1+}; it must be a text.": "{0}：{1}；必须是文本。",
    "{0}: {1+}; it must be true or false.": "{0}：{1}；必须是 true 或 false。",
    "{0}: {1+}; it must be a whole number.": "{0}：{1}；必须是整数。",
    "{0}: {1+}; it must be a number.": "{0}：{1}；必须是数字。",
    "{0}: {1+}; choose one of {2}.": "{0}：{1}；请从 {2} 中选择。",
    "a number of many digits": "一个位数很多的数",
    "{0} is '{1}'; choose one of {2}.": "{0} 为“{1}”；请从 {2} 中选择。",
    "{0} has a negative number; counts start at 0.": "{0} 中有负数；从 0 开始计数。",
    "{0} is {1} and {2} is {3}; counts start at 0.": "{0} 为 {1}，{2} 为 {3}；从 0 开始计数。",
    "budget_mib is {0}; it cannot be negative.": "budget_mib 为 {0}；不能为负。",
    "give both ref_token_idx and cur_token_idx, or neither.":
        "ref_token_idx 和 cur_token_idx 请都填写，或都留空。",
    "{0} ({1}) must be larger than {2} ({3}).": "{0}（{1}）必须大于 {2}（{3}）。",
    "{0} ({1}) must be larger than {2} ({3}); use -1 for the last step.":
        "{0}（{1}）必须大于 {2}（{3}）；-1 表示最后一步。",
    "{0} ({1}) must be larger than {2} ({3}); use -1 for the last layer.":
        "{0}（{1}）必须大于 {2}（{3}）；-1 表示最后一层。",
    "share_subject and share_background are both off, so nothing would be shared. Turn one on, or set mode to off.":
        "share_subject 和 share_background 都已关闭，因此不会共享任何内容。请打开其中一个，或将 mode 设为 off。",
    "is_edit pairs each later prompt with the first; choose order 'lockstep'.":
        "is_edit 让后面每条提示词都与第一条配对；请选择 order lockstep。",
    "config: reweight_token_idx has {0}, which is a word that the script weighs. Take one out.":
        "config：reweight_token_idx 中有 {0}，脚本已为该词语设置权重。请去掉其中一个。",
    ["drift_control compares segments that are denoised together, but in order 'chain' one is finished after the " +
        "other. Set drift_control to 0, or choose another order."]:
        "drift_control 比较一起去噪的分段，而 order 为 chain 时分段逐个完成。请将 drift_control 设为 0，或选择其他 order。",
    "token_dropout is {0}; it must be at least 0 and below 1.":
        "token_dropout 为 {0}；必须不小于 0 且小于 1。",
    "share_text works in mode 'replace' only; own and foreign text would mix.":
        "share_text 只能用于 mode 为 replace 时；否则自身与来源的文本会混合。",
    "{0}: {1} is neither a number nor a range; write for example 2, 5, 25-29.":
        "{0}：{1} 既不是数字也不是范围；请写成例如 2, 5, 25-29。",
    "{0}: {1} goes beyond {2}.": "{0}：{1} 超过 {2}。",
    "{0}: the range {1} runs backwards.": "{0}：范围 {1} 首尾颠倒。",
    ["config: the paper's method follows one subject, but the script names {0}; choose order 'lockstep' and another " +
        "mask_kind, or name one subject."]:
        "config：论文的方法只跟踪一个主体，而脚本写了 {0}；请选择 order 为 lockstep 并换用其他 mask_kind，或只写一个主体。",
    ["it has sources of its own, but in order 'ditctrl' every segment attends to the one before; take them out, or " +
        "choose order 'lockstep'."]:
        "它有自己的来源，但 order 为 ditctrl 时每个分段都关注前一个；请删去来源，或选择 order 为 lockstep。",
    ["config: ref_token_idx gives the places of one subject, but the script names {0}; leave ref_token_idx and " +
        "cur_token_idx empty, or name one subject."]:
        "config：ref_token_idx 给出的是一个主体的位置，而脚本写了 {0}；请将 ref_token_idx 和 cur_token_idx 留空，或只写一个主体。",
    ["timeline: it routes the text from one prompt to the next ([route]), which this model ({0}) does not allow: it " +
        "mixes the text's tokens among themselves or with the video's. Write [blend] or [segments] instead."]:
        "timeline：它让文本从一条提示词逐帧变为下一条（[route]），而此模型（{0}）不允许：它会把文本的 token 相互混合，或与视频的混合。请改写 [blend] 或 [segments]。",
    ["config: its blocks were measured on {0+}, but this model is {1+}. Load a preset of this model, or measure it " +
        "with KV Sharing Probe."]:
        "config：其中的块是在 {0}上测得的，而此模型是 {1}。请加载此模型的预设，或用“共享探测”测量。",
    "{0} with {1} blocks": "{0}（{1} 个块）",
    "config: {0} asks for block {1}, but this model has blocks 0 to {2}.":
        "config：{0} 要求块 {1}，而此模型的块为 0 到 {2}。",
    "subject: '{0}' has {1} words; name what should stay the same with at most {2}.":
        "主体：“{0}”有 {1} 个词语；请用最多 {2} 个写出应保持不变的事物。",
    "sampling_num_frames: {0} latent frames; a segment needs at least 1.":
        "sampling_num_frames：{0} 个 Latent 帧；一个分段至少需要 1 帧。",
    "{0}: {1} segments; it must be at least 0.": "{0}：{1} 个分段；必须不小于 0。",
    ["loop: this model encodes its video in groups of {0} latent frames, with which a loop cannot go round. Take " +
        "loop out of the script."]:
        "loop：此模型以 {0} 个 Latent 帧为一组编码视频，无法首尾循环。请从脚本中删去 loop。",
    ["prompts: there are {0} prompts; a film has at most {1}. Leave some out. Or make it in parts: Long Video " +
        "Continue goes on from a finished one."]:
        "共有 {0} 条提示词；一部影片最多 {1} 条。请删去一些。也可以分几部分制作：“长视频续写”可从已完成的部分继续。",
    ["sampling_num_frames: {0} latent frames; a segment has at most {1}. Write 0 for the length that the model was " +
        "trained on."]:
        "sampling_num_frames：{0} 个 Latent 帧；一个分段最多 {1} 帧。写 0 则使用模型训练时的长度。",
    "fps: {0}; it must be at most {1}.": "fps：{0}；不能超过 {1}。",
    "longer_mid_segment: it must be at most {0} segments.": "longer_mid_segment：不能超过 {0} 个分段。",
    ["prompts: the script names {0} subjects; a film has at most {1}. Give what is the same in several prompts one " +
        "name, as in subject: fox = the red fox."]:
        "脚本写了 {0} 个主体；一部影片最多 {1} 个。多条提示词中相同的事物请用同一名称，例如 subject: fox = the red fox。",
    ["prompts: too many prompts change by route within one segment. Lower sampling_num_frames, or write [blend] or " +
        "[cut] between some of them."]:
        "一个分段内逐帧变化的提示词过多。请调低 sampling_num_frames，或在其中一些之间写 [blend] 或 [cut]。",
    ["the model is a {0}, but KV Share works with models of these families: {1}. Load one of those."]:
        "模型是 {0}，而 KV Share 支持以下家族的模型：{1}。请加载其中之一。",
    ["the model is a UNet with layers over time (Stable Video Diffusion), which is not prompted by text: it animates " +
        "one picture, so there are no words of a subject and no prompts to share between. Load a video diffusion " +
        "transformer, or an SD 1.x, 2.x or SDXL model for stills."]:
        "该模型是带有时间层的 UNet（Stable Video Diffusion），它不由文本提示，而是让一张图像动起来，因此既没有主体的词语，也没有可以共享的提示词。" +
        "请加载视频 Transformer；制作静态图像时请加载 SD 1.x、2.x 或 SDXL 模型。",
    ["the model is a UNet without attention to text, in which nothing can be shared. Load an SD 1.x, 2.x or SDXL " +
        "model."]:
        "该模型是没有文本注意力的 UNet，其中没有可以共享的内容。请加载 SD 1.x、2.x 或 SDXL 模型。",
    ["this is a causal Wan model (Self-Forcing), which makes the video piece by piece with a memory of keys of its " +
        "own, so it cannot be cut into segments. Load the Wan model that it was made from."]:
        "这是因果式 Wan 模型（Self-Forcing），它用自己的键缓存逐段生成视频，无法切成分段。请加载它所基于的 Wan 模型。",
    ["this is {0}, which takes reference images and poses in an order of its own that KV Share does not know yet. " +
        "Load Wan Animate or VACE."]:
        "这是 {0}，它以自己的顺序使用参考图像和姿势，KV Share 尚不了解。请加载 Wan Animate 或 VACE。",
    ["this is Wan Animate 2, which attends to its pose video and its reference in calls of its own for every frame, " +
        "and KV Share does not know them yet. Load Wan Animate or VACE."]:
        "这是 Wan Animate 2，它在每一帧中以单独的调用关注姿势视频和参考图像，KV Share 尚不了解。请加载 Wan Animate 或 VACE。",
    ["this is WanDancer, which follows music over the whole video, and music is not cut into segments. Load another " +
        "Wan model."]:
        "这是 WanDancer，它在整个视频中跟随音乐，而音乐不能切成分段。请加载其他 Wan 模型。",
    ["this is Wan S2V, and this version of ComfyUI does not let other nodes change its attention. Update ComfyUI, " +
        "or load HuMo for video from audio."]:
        "这是 Wan S2V，而此版本的 ComfyUI 不允许其他节点更改其注意力。请更新 ComfyUI，或用 HuMo 由音频生成视频。",
    ["[3s] or [24f] or [5 latent] for a duration, [0:00-0:05] for a time, [cut], [cut gap 5f], [blend 8f], " +
        "[segments 2] or [route 0.5s] for a transition"]:
        "[3s]、[24f] 或 [5 latent]（时长），[0:00-0:05]（起止时刻），或 [cut]、[cut gap 5f]、[blend 8f]、[segments 2]、[route 0.5s]（转场）",
    "half of a character, as a cut emoji leaves it; delete it.": "半个字符，例如被截断的表情符号；请删去。",
    "{0} is a fence of Markdown; delete it, and its counterpart at the end.":
        "{0} 是 Markdown 的代码围栏；请将它和末尾对应的一行删去。",
    "JSON begins here, but the text above it is not JSON; delete what is above.":
        "这里开始是 JSON，但其上方的文本不是 JSON；请删去上方的内容。",
    "a list of JSON begins here, which is no film; write {0}.": "这里开始是 JSON 列表，它不是影片；请写 {0}。",
    "a script has no 'positive prompt:'; write the prompt alone; for these words in a prompt write {0}.":
        "脚本中没有“positive prompt:”；请只写提示词；如果提示词中就有这些词，请写 {0}。",
    "{0} are another program's settings; delete them.": "{0} 是其他程序的设置；请删去。",
    ["this is part of a JSON text whose beginning is not here; begin with { and nothing above it; for these words " +
        "in a prompt write {0}."]:
        "这是 JSON 文本的一部分，但开头不在这里；请以“{”开头，上方不要有任何内容；如果提示词中就有这些词，请写 {0}。",
    ["prompts: there is no prompt; write one per line. 'prompt:' is the beginning of every prompt, which then needs " +
        "a line below."]:
        "还没有提示词；请每行写一条。“prompt:”是每条提示词的开头，下方还需要一行。",
    "only prompts have fields; write \\| for the character itself.": "只有提示词才有字段；如果就是要这个字符，请写 \\|。",
    "{0} could be a time or a duration; write [3s] for a duration, or [0:00-0:03] for a start and an end.":
        "{0} 可能是时刻，也可能是时长；时长请写 [3s]，开始和结束请写 [0:00-0:03]。",
    ["{0} needs prompts before it that all have durations in seconds, and no [segments], which add time; write a " +
        "duration such as [3s]."]:
        "{0} 要求之前的提示词都有以秒为单位的时长，且没有会增加时间的 [segments]；请写 [3s] 这样的时长。",
    "begins at {0} seconds, but the prompts before it last {1} seconds; prompts follow each other without a gap.":
        "从 {0} 秒开始，但之前的提示词共 {1} 秒；提示词之间没有间隔。",
    ["{0} is not a field; fields are {1}, as in | strength: 0.8. Write \\| for the character itself. A choice such " +
        "as {red|blue} is not made here: write every prompt on a line of its own."]:
        "{0} 不是字段；字段有 {1}，例如 | strength: 0.8。如果就是要这个字符，请写 \\|。这里不会从 {red|blue} 中选择：请将每条提示词各写一行。",
    "'none' says that there is no subject; leave it or the other subjects out.":
        "“none”表示没有主体；请删去它，或删去其他主体。",
    "{0} without '%'; write until 20%.": "{0} 缺少“%”；请写 until 20%。",
    "there is no text before 'until'.": "“until”之前没有文本。",
    "a source is given twice.": "同一来源写了两次。",
    "'{0}' is not a name for a subject; choose one without '=', and not 'none'.":
        "“{0}”不能作主体的名称；请选择不含“=”且不是“none”的名称。",
    "'{0}' belongs to all beats, so its source can only be first or previous; name another source after a later prompt.":
        "“{0}”属于所有提示词，其来源只能是 first 或 previous；其他来源请写在后面的提示词之后。",
    "there are two subjects '{0}'; give one another name, such as other = {1}.":
        "有两个主体“{0}”；请给其中一个换名，例如 other = {1}。",
    "{0+}; a text that begins with '{' is read as JSON, a prompt that does begins with \\{.":
        "{0}；以“{”开头的文本按 JSON 读取，如果提示词就这样开头，请写 \\{。",
    ["{0+}; a text that begins with '{' is read as JSON, a prompt that does begins with \\{. A choice " +
        "such as {red|blue} is not made here: write every prompt on a line of its own."]:
        "{0}；以“{”开头的文本按 JSON 读取，如果提示词就这样开头，请写 \\{。这里不会从 {red|blue} 中作选择：请把每条提示词单独写一行。",
    "Expecting value": "此处缺少值",
    "Expecting property name enclosed in double quotes": "此处缺少双引号中的名称",
    "Expecting '{0}' delimiter": "此处缺少“{0}”",
    "Extra data": "结尾之后还有内容",
    "Unterminated string starting at": "此处开始的字符串没有结束",
    "Invalid control character at": "此处有不允许的控制字符",
    "Invalid \\escape": "此处的 \\ 转义无效",
    "Invalid \\uXXXX escape": "此处的 \\uXXXX 转义无效",
    "Illegal trailing comma before end of {0}": "结尾前多了一个逗号",
    "prompts: the JSON has too many nested brackets.": "JSON 的括号嵌套太深。",
    "prompts: the JSON has a number that is too long to read.": "JSON 中有一个长得无法读取的数。",
    "prompts: an object has {0} twice; leave one out.": "同一对象中 {0} 写了两次；请删去一个。",
    "prompts: {0} is not a number that a script can use.": "{0} 不是脚本能使用的数。",
    "prompts: '{0}' is missing; the least is {1}.": "缺少“{0}”；至少要写 {1}。",
    "must be an object with {0}.": "必须是含有 {0} 的对象。",
    "is unknown; write one of {0}.": "没有这个名称；请写 {0} 之一。",
    "must be a list.": "必须是列表。",
    "must be text.": "必须是文本。",
    "must be a number.": "必须是数字。",
    "is too large.": "太大。",
    "must be a whole number of at most 15 digits.": "必须是不超过 15 位的整数。",
    "must be true or false.": "必须是 true 或 false。",
    "is {0}; this is read as version {1} only.": "为 {0}；这里只能读取版本 {1}。",
    "has no prompt.": "没有提示词。",
    "has no name.": "没有名称。",
    "has no file.": "没有文件。",
    "has no {0}; write {1}.": "缺少 {0}；请写 {1}。",
    "must have one unit, such as {0}.": "必须有一个单位，例如 {0}。",
    "kind must be one of {0}.": "kind 必须是 {0} 之一。",
    "must be \"first\", \"previous\" or the number of a beat, counted from 1.": "必须是 first、previous，或从 1 开始计数的提示词编号。",
    "a {0} has no duration; only blend and route have one.": "{0} 没有时长；只有 blend 和 route 有。",
    "a {0} has no gap; only a cut has one.": "{0} 没有 gap；只有 cut 有。",
    "a {0} has no segments.": "{0} 没有分段。",
    "it needs a common prompt, whose end it sets.": "它设定公共提示词的结束，因此需要有公共提示词。",
    "there is no prompt; write at least one.": "没有提示词；请至少写一条。",
    "{0} must not be empty.": "{0} 不能为空。",
    "{0} must not begin or end with a space or an invisible mark.": "{0} 的开头和结尾不能有空格或不可见字符。",
    "{0} must not have a line break.": "{0} 中不能换行。",
    "{0} must not have a carriage return; write line breaks as line feeds.": "{0} 中不能有回车符；换行请用换行符（LF）。",
    "{0} must not have half a surrogate pair, which is not a character.": "{0} 中有半个字符（例如被截断的表情符号）；请删去。",
    "the request is larger than {0} MiB.": "请求超过 {0} MiB。",
    "the graph has more than {0} nodes.": "工作流的节点超过 {0} 个。",
    "the plan is larger than {0} MiB: shorten the film.": "计划超过 {0} MiB：请缩短影片。",
};
