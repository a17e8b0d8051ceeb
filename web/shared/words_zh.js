/**
 * What the editor and the viewer say in Chinese: their own words, and the messages that Python sends, by the English. In
 * braces stand numbers and words that are put in; those with + are messages themselves.
 */

/** @type {Record<string, string>} */
export const WORDS = {
    "+ Beat": "+ 提示词",
    "Split": "拆分",
    "Duplicate": "复制",
    "Delete": "删除",
    "Fit": "适应",
    "Convert to text": "转换为文本",
    "Undo (Ctrl+Z)": "撤销 (Ctrl+Z)",
    "Redo (Ctrl+Y)": "重做 (Ctrl+Y)",
    "Split the beat in two (S)": "将提示词一分为二 (S)",
    "Duplicate the beat (D)": "复制提示词 (D)",
    "Delete the beat (Delete)": "删除提示词 (Delete)",
    "Add a beat after the selected one (A)": "在所选提示词之后添加 (A)",
    "Zoom out (-)": "缩小 (-)",
    "Show the whole film (0)": "显示整部影片 (0)",
    "Zoom in (+)": "放大 (+)",
    "Timeline": "时间线",
    "Plan of the run": "运行计划",
    "Join lines": "合并为一行",
    "Duration": "时长",
    "Transition": "转场",
    "Subject words": "主体词语",
    "More of this beat": "此提示词的更多设置",
    "Strength": "强度",
    "Source": "来源",
    "Negative prompt": "负面提示词",
    "Seed": "种子",
    "Word weights": "词语权重",
    "default": "默认",
    "one segment": "一个分段",
    "Length": "长度",
    "Segments": "分段",
    "Sharing": "共享",
    "Keys and values": "键和值",
    "Shared attention": "共享注意力",
    "Extra computation": "额外计算",
    "First step": "第一步",
    "off": "关闭",
    "Subject": "主体",
    "Draw": "显示方式",
    "heat": "热力图",
    "mask": "遮罩",
    "Step": "步",
    "Segment": "分段",
    "Opacity": "不透明度",
    "Frame": "帧",
    "This frame only": "仅此帧",
    "Point": "选点",
    "Choose a point: its attention map is shown after the next run": "选择一个点：下次运行后显示它的注意力图",
    "Run the workflow to see where the subject was found.": "运行工作流后，这里显示找到主体的位置。",
    "No beats yet. Write one prompt per line above, or add a beat.": "还没有提示词。请在上方每行写一条，或点击添加。",
    "from Mask-Guided KV Share": "取自“遮罩引导 KV 共享”",
    "Beat {0}": "提示词 {0}",
    "Beat {0} is now beat {1}": "提示词 {0} 现在是第 {1} 条",
    "Beat {0} duplicated": "已复制提示词 {0}",
    "Beat {0} deleted": "已删除提示词 {0}",
    "Beat added": "已添加提示词",
    "The pasted text contains no beat.": "粘贴的文本中没有提示词。",
    "The {0} pasted lines are as many beats.": "粘贴的 {0} 行各成为一条提示词。",
    "The server does not respond, so no plan is shown. The text is kept.": "服务器没有响应，因此不显示计划。文本会保留。",
    "The model is unknown until it is loaded; segments of 21 latent frames are assumed.":
        "加载之前模型未知；这里按每个分段 21 个 Latent 帧计算。",
    "Step {0} of {1}, segment {2} of {3}": "第 {0}/{1} 步，第 {2}/{3} 个分段",
    "Convert this JSON film to the text form, which can be edited here": "将此 JSON 影片转换为可在此处编辑的文本",
    "The next beat begins at once. gap 5f moves the beats before it further away in time":
        "下一条提示词立即开始。gap 5f 使之前的提示词在时间上离得更远",
    "The beats fade into each other, over 8f for example. Empty: over the usual overlap of segments":
        "两条提示词相互淡入淡出，例如用 8f。留空：用分段通常的重叠长度",
    "So many more segments turn one prompt into the next, which makes the film longer":
        "额外加入这么多分段，使前一条提示词逐渐变为下一条，影片会变长",
    "The text changes from one prompt to the next within the picture, over 0.5s for example":
        "画面内的文本从一条提示词逐帧变为下一条，例如用 0.5s",
    "As Long Video Segmenter is set: num_transition_blocks, else a blend over overlap_size":
        "按“长视频分段器”的设置：num_transition_blocks，否则按 overlap_size 混合",
    "How much this beat attends to its source: 0 to 2. Empty: as in KV Sharing Config": "此提示词关注来源的程度：0 到 2。留空：按“共享配置”",
    "Whose subject this beat shows: first, previous, none, or beat 2. Empty: as in KV Sharing Config":
        "此提示词显示谁的主体：first、previous、none 或 beat 2。留空：按“共享配置”",
    "What this beat must not show. Empty: the negative prompt of the film": "此提示词中不应出现的内容。留空：使用影片的负面提示词",
    "A file and its strength: style.safetensors 0.8. Separate several with |":
        "文件及其强度：style.safetensors 0.8。多个之间用 | 分隔",
    "Words of the prompt and how much they count: fox 1.5. 0 leaves them out. Separate several with |":
        "提示词中的词语及其权重，例如 fox 1.5。0 表示不考虑它们。多个用 | 分隔",
    "Other noise for this beat: +1, +2 and so on. Empty: that of the film": "此提示词使用其他噪声：+1、+2 等。留空：使用影片的噪声",
    "3s, 24f (frames) or 5l (latent frames). Empty: one segment": "3s、24f（帧）或 5l（Latent 帧）。留空：一个分段",
    "Words of the prompt that name the subject. Separate several subjects with |, or write none":
        "提示词中指明主体的词语。多个主体之间用 | 分隔，没有则写 none",
    "How long the film is": "影片的长度",
    "Parts that the model makes, each as long as it was trained on; neighbours overlap": "模型生成的各部分，长度与训练时相同；相邻部分相互重叠",
    "Where in the model, and in which steps, segments attend to their sources": "分段在模型的哪些块、哪些步中关注其来源",
    "Memory that the sources take until other segments have used them": "来源在其他分段用完之前占用的内存",
    "Memory that one shared attention takes beside the model's own": "一次共享注意力在模型自身之外占用的内存",
    "What sharing costs on top of segments that do not share": "与不共享相比，共享多出的计算",
    "What finding the subject costs, once": "查找主体的一次性开销",
    "{0} frames, {1} latent": "{0} 帧，{1} 个 Latent 帧",
    "of {0} latent frames, {1} for overlaps": "每个 {0} 个 Latent 帧，重叠占 {1}",
    "steps unknown": "步数未知",
    "steps {0} of {1}": "第 {0} 步，共 {1} 步",
    "none": "无",
    "part of the noise schedule": "噪声调度的一部分",
    "blocks {0}": "块 {0}",
    "up to {0}": "最多 {0}",
    "about {0}": "约 {0}",
    "at most {0}": "最多 {0}",
    "more {0} while a block shares": "某个块共享时另需的{0}",
    "system RAM": "系统内存",
    "VRAM": "显存",
    "1 more evaluation": "多 1 次推理",
    "{0} more evaluations": "多 {0} 次推理",
    "of segments, to find the subjects": "（分段），用于查找主体",
    "{0}-bit numbers in {1}": "{0} 位数值，位于{1}",
    "{0}-bit numbers in {1} up to {2}, the rest in system RAM": "{0} 位数值，{1}中最多 {2}，其余在系统内存",
    "Beat {0} of {1}, {2} seconds: {3}": "提示词 {0}/{1}，{2} 秒：{3}",
    "begins with {0}": "以 {0} 开始",
    "Click a place in the frame.": "请在画面中点击一个位置。",
    "Attention of the point to each part of the video": "该点对视频各部分的注意力",
    "Frame {0}: {1} of its attention to the video": "第 {0} 帧：占其对视频注意力的 {1}",
    "Frames {0} to {1}: {2} of its attention to the video": "第 {0} 至 {1} 帧：占其对视频注意力的 {2}",
    "Segment {0}: the words of its prompt are not known.": "分段 {0}：其提示词的词语未知。",
    "Segment {0}, beat {1}: {2}": "分段 {0}，提示词 {1}：{2}",
    "Segment {0}, beat {1}, weight {2}: {3}": "分段 {0}，提示词 {1}，权重 {2}：{3}",
    "attention to the words": "对词语的注意力",
    "words get {0} of its attention": "词语得到其注意力的 {0}",
    "Attention between the words": "词语之间的注意力",
    "Each row is a query word; columns show its attention to each word, in percent.": "每行是一个查询词；各列是它对每个词的注意力，以百分比表示。",
    "beat {0}": "提示词 {0}",
    "from beat {0} to {1}": "从提示词 {0} 到 {1}",
    "{0}: {1}, {2} to {3}": "{0}：{1}，{2} 至 {3}",
    "all subjects": "全部主体",
    "attention of the point": "该点的注意力",
    "Pause (Space)": "暂停（空格）",
    "Play (Space)": "播放（空格）",
    "Words that named the subject": "指明主体的词语",
    "Attention of the point to words": "该点对词语的注意力",
    "Connect record directly to Mask-Guided KV Share to set its look_at.": "请将 record 直接连接到“遮罩引导 KV 共享”，以设置其 look_at。",
    "look_at is set to {0}. Run again to see its attention.": "look_at 已设为 {0}。再次运行即可看到它的注意力。",
    "The images of the last run are gone. Run the workflow again.": "上次运行的图像已不存在。请重新运行工作流。",
    "last": "最后",
    "after {0}": "第 {0} 步之后",
    "{0} of {1}, {2}": "第 {0}/{1} 帧，{2}",
    "The first of {0} videos": "{0} 个视频中的第一个",
    "Frame {0}, {1}": "画面 {0}，{1}",
    "Mask: {0} of the frame": "遮罩：占画面的 {0}",
    "Bright areas get the most attention from the ringed point.": "明亮的区域得到圆圈处最多的注意力。",
    "No words for this subject: it comes from a connected mask or a loaded run.": "此主体没有词语：它来自连接的遮罩或加载的运行。",
    "Beat {0}, {1}: {2}": "提示词 {0}，{1}：{2}",
    "not shown": "不出现",
    "against {0}": "相对于 {0}",
    "token {0}": "第 {0} 个 token",
    "tokens {0}": "第 {0} 个 token",
};

/** @type {Record<string, string>} */
export const MESSAGES = {
    ["{0} would become a prompt of its own; delete it, or begin the line with # to keep it as a note; " +
        "for a prompt of these words write {1}."]:
        "{0} 会单独成为一条提示词；请删去，或在行首加 # 作为注释；如果提示词就是这些词，请写 {1}。",
    ["config: is_edit takes later prompts for edits of the first, but there is one prompt. Write the edited " +
        "prompt below it, with [cut] in between."]:
        "config：is_edit 把后面的提示词当作第一条的编辑，但只有一条提示词。请在其下方写出编辑后的提示词，中间写 [cut]。",
    ["config: is_edit takes prompts for edits of the first, but prompt {0} and the one before fade into each " +
        "other. Write [cut] between all prompts, and no loop."]:
        "config：is_edit 把提示词当作第一条的编辑，但提示词 {0} 与前一条相互淡入淡出。请在所有提示词之间写 [cut]，且不要循环。",
    ["config: is_edit takes prompts for edits of the first, but prompt {0} lasts {1} latent frames and a segment " +
        "{2}, which would show another prompt too. Set sampling_num_frames in Long Video Segmenter to {3}, or make " +
        "the prompt longer."]:
        "config：is_edit 把提示词当作第一条的编辑，但提示词 {0} 持续 {1} 个 Latent 帧，而一个分段有 {2} 个，会同时显示另一条提示词。请把“长视频分段器”的 sampling_num_frames 设为 {3}，或延长该提示词。",
    ["config: share_subject is off, but no subject is named, so there is nothing to tell from it. Name the " +
        "subject in Mask-Guided KV Share, or turn share_subject on."]:
        "config：share_subject 已关闭，但没有写出主体，因此无从区分。请在“遮罩引导 KV 共享”中写出主体，或打开 share_subject。",
    "subject: '{0}' is not in the prompt '{1}'. Did you mean '{2}'? Words of this prompt: {3}.":
        "主体：提示词“{1}”中没有“{0}”。是否指“{2}”？此提示词中的词语：{3}。",
    "subject: '{0}' is not in the prompt '{1}'. Words of this prompt: {2}.": "主体：提示词“{1}”中没有“{0}”。此提示词中的词语：{2}。",
    "weight: '{0}' is not in the prompt '{1}'. Did you mean '{2}'? Words of this prompt: {3}.":
        "权重：提示词“{1}”中没有“{0}”。是否指“{2}”？此提示词中的词语：{3}。",
    "weight: '{0}' is not in the prompt '{1}'. Words of this prompt: {2}.": "权重：提示词“{1}”中没有“{0}”。此提示词中的词语：{2}。",
    "weight: a word of '{0}' has another weight already. Leave one out.": "权重：“{0}”中的一个词语已有另一个权重。请去掉其中一个。",
    "subject: '{0}' has no words; name what should stay the same, for example 'fox'.":
        "主体：“{0}”中没有词语；请写出应保持不变的事物，例如“fox”。",
    ["subject: it is '{0}', but the script names {1} itself; leave subject empty, or take the subjects " +
        "out of the script."]:
        "主体为“{0}”，但脚本自己写了 {1}；请将 subject 留空，或从脚本中删去主体。",
    "subject: it is '{0}', but every prompt says that it shows none.": "主体为“{0}”，但每条提示词都写明没有主体。",
    "Use '{0}' here": "此处用“{0}”",
    "Use '{0}'": "使用“{0}”",
    "Subject: {0}": "主体：{0}",
    "Add Mask-Guided KV Share": "添加“遮罩引导 KV 共享”",
    "the LoRA '{0}' is not in models/loras. There are none.": "models/loras 中没有 LoRA “{0}”。那里没有任何文件。",
    "the LoRA '{0}' is not in models/loras. There are {1}.": "models/loras 中没有 LoRA “{0}”。那里有 {1}。",
    ["No subject is named, so the whole picture is shared: about {0} computation. Name what should stay " +
        "the same."]:
        "没有指定主体，因此共享整个画面：计算量约 {0}。请写出应保持不变的事物。",
    ["Nothing shares: the timeline is not connected to Mask-Guided KV Share, so every prompt gets a " +
        "subject of its own."]:
        "没有共享：时间线未连接到“遮罩引导 KV 共享”，因此每条提示词都有各自的主体。",
    "mode is off": "mode 为 off",
    "strength is 0": "strength 为 0",
    "there is one segment only": "只有一个分段",
    "no prompt has a source": "没有提示词有来源",
    "no block is chosen": "没有选中任何块",
    "no step is chosen": "没有选中任何步",
    ["Keys and values need about {0} GB of {1+}, and this machine has {2} GB: dtype fp8 in KV Sharing " +
        "Memory Settings halves this; a smaller width and height, sources first or previous, or fewer blocks " +
        "need less."]:
        "键和值约需 {0} GB {1}，而本机只有 {2} GB：“共享内存设置”中的 dtype fp8 可减半；减小宽高、来源只用 first 或 previous，或使用更少的块，需要得更少。",
    ["Keys and values need about {0} GB of {1+}, and this machine has {2} GB: a smaller width and height, " +
        "sources first or previous, or fewer blocks need less."]:
        "键和值约需 {0} GB {1}，而本机只有 {2} GB：减小宽高、来源只用 first 或 previous，或使用更少的块，需要得更少。",
    "system RAM": "系统内存",
    "VRAM": "显存",
    "The {0} before prompt {1} takes {2} latent frames (asked for {3}).": "提示词 {1} 之前的 {0} 占 {2} 个 Latent 帧（要求 {3}）。",
    "The {0} before prompt {1} takes {2} latent frames.": "提示词 {1} 之前的 {0} 占 {2} 个 Latent 帧。",
    ["The video is shorter than the {0} latent frames of a segment, so its segments have {1}: less than " +
        "the model was trained on."]:
        "视频比一个分段的 {0} 个 Latent 帧还短，因此分段只有 {1} 帧：少于模型训练时的长度。",
    "{0} is not used for prompt {1}: the script sets its own.": "提示词 {1} 不使用 {0}：脚本设置了自己的值。",
    "KV Share Workers: one worker for each GPU. Enter a number in workers to see how much faster that is.":
        "多 GPU 工作进程：每个 GPU 一个工作进程。在 workers 中填写数字即可看到能快多少。",
    "KV Share Workers: {0} evaluations in each step, with one process {1}: {2} times as fast.":
        "多 GPU 工作进程：每步计算 {0} 次，单个进程为 {1} 次：速度为 {2} 倍。",
    "KV Share Workers: segments {0}; {1} MiB travel in each step.": "多 GPU 工作进程：分段 {0}；每步传输 {1} MiB。",
    ["KV Share Workers: order 'chain' samples one segment after another, so there is nothing to divide. Set order " +
        "to lockstep or sources_first in KV Sharing Config."]:
        "多 GPU 工作进程：order 'chain' 逐个采样分段，没有可分的部分。请在“共享配置”中把 order 设为 lockstep 或 sources_first。",
    ["KV Share Workers: segments attend to the one before them, so each worker would have to evaluate all that come " +
        "before its own, and nothing would be faster. Set sources to first in KV Sharing Config, or give prompts sources " +
        "of their own ('source: beat 1'), or remove this node."]:
        "多 GPU 工作进程：每个分段都关注前一个分段，因此每个进程都要计算自己之前的所有分段，不会更快。请在“共享配置”中把 sources 设为 first，或为提示词指定来源（'source: beat 1'），或移除此节点。",
    "{0} comes from another node; {1} is assumed here.": "{0} 来自另一个节点；这里按 {1} 计算。",
    "prompts comes from another node: edit it there.": "prompts 来自另一个节点：请在那里编辑。",
    "prompts: there is no prompt; write one per line.": "还没有提示词；请每行写一条。",
    ["its {0} takes {1} latent frames, but the previous prompt lasts only {2}. Shorten the {3} or " +
        "lengthen the prompt."]:
        "它的 {0} 占 {1} 个 Latent 帧，但前一条提示词只有 {2} 帧。请缩短 {3}，或延长提示词。",
    "overlap_size: {0} latent frames; it must be at least 0 and less than a segment's {1}.":
        "overlap_size：{0} 个 Latent 帧；必须不小于 0，且小于一个分段的 {1} 帧。",
    ["overlap_size: {0} latent frames; segments of {1} begin {2} or more after each other, so they " +
        "overlap by at most {3}."]:
        "overlap_size：{0} 个 Latent 帧；{1} 帧的分段至少相隔 {2} 帧开始，因此最多重叠 {3} 帧。",
    "sampling_num_frames: {0} latent frames; videos of this model have {1&}.":
        "sampling_num_frames：{0} 个 Latent 帧；此模型的视频为 {1} 帧。",
    ["prompts: prompt {0} ends after {1} latent frames; a film has at most {2}. Shorten its durations or " +
        "lower fps. Or make it in parts: Long Video Continue goes on from a finished one."]:
        "提示词 {0} 在 {1} 个 Latent 帧之后才结束；一部影片最多 {2} 帧。请缩短时长或降低 fps。也可以分几部分制作：“长视频续写”可从已完成的部分继续。",
    ["prompts: the film needs more than {0} segments. Raise sampling_num_frames, or lower overlap_size or " +
        "num_transition_blocks. Or make it in parts: Long Video Continue goes on from a finished one."]:
        "影片需要超过 {0} 个分段。请调高 sampling_num_frames，或调低 overlap_size 或 " +
        "num_transition_blocks。也可以分几部分制作：“长视频续写”可从已完成的部分继续。",
    "{0} is not a duration; write {1}, in s, f or latent.": "{0} 不是时长；请写成 {1}，单位为 s、f 或 latent。",
    "{0} is not a number; write one such as 0.8.": "{0} 不是数字；请写成 0.8 这样的数字。",
    "{0} is not a whole number; write what to add to the seed, such as +5.": "{0} 不是整数；请写要加到种子上的数，例如 +5。",
    "{0} is not a source; write first, previous, beat 1, several joined by and, or none.":
        "{0} 不是来源；请写 first、previous、beat 1、用 and 连接的多个来源，或 none。",
    "{0+}; a duration must be longer than zero and at most {1+}.": "{0}；时长必须大于零，且不超过 {1}。",
    "{0+}; frames are whole numbers.": "{0}；帧数是整数。",
    "{0} is {1}; it must be between {2} and {3}.": "{0} 为 {1}；必须在 {2} 到 {3} 之间。",
    "{0} segments; write 1 to {1}.": "{0} 个分段；请写 1 到 {1}。",
    "write how many segments, such as [segments 2].": "请写分段的数量，例如 [segments 2]。",
    "{0} is a strength without a file; write lora: style.safetensors 0.8.":
        "{0} 只有强度而没有文件；请写成 lora: style.safetensors 0.8。",
    "{0} is not words and a weight; write weight: fox 1.5.": "{0} 不是词语加权重；请写成 weight: fox 1.5。",
    "'{0}' is weighed twice; leave one out.": "“{0}”写了两个权重；请去掉其中一个。",
    "'{0}' is given twice.": "“{0}”写了两次。",
    "'{0}' has no value.": "“{0}”没有值。",
    "no prompt is above this line; write it below the prompt that it belongs to.": "这一行上方没有提示词；请写在它所属的提示词下方。",
    "no prompt follows this transition; write one below it or leave it out.": "这个转场后面没有提示词；请在下方写一条，或删去转场。",
    "no beat comes before the first, so it has no transition.": "第一条提示词之前没有别的，因此没有转场。",
    "beat {0} has beat {1} as a source; sources are earlier beats, counted from 1.":
        "提示词 {0} 以提示词 {1} 为来源；来源必须是更早的提示词，从 1 开始计数。",
    "its {0} takes {1} latent frames; it must be shorter than a segment's {2}.":
        "它的 {0} 占 {1} 个 Latent 帧；必须短于一个分段的 {2} 帧。",
    "{0} is neither a duration nor a transition; write {1+}, or \\[ for the character itself.":
        "{0} 既不是时长也不是转场；请写 {1}，如果就是要这个字符，请写 \\[。",
    "'[' without ']'; write {0+}, or \\[ for the character itself.": "有“[”而没有“]”；请写 {0}，如果就是要这个字符，请写 \\[。",
    "{0} is not a field; fields are {1}, as in | strength: 0.8. Write \\| for the character itself.":
        "{0} 不是字段；字段有 {1}，例如 | strength: 0.8。如果就是要这个字符，请写 \\|。",
    "'{0}' belongs to all prompts; write it on a line of its own above the first.": "“{0}”适用于全部提示词；请写在第一条上方单独的一行。",
    ["'{0}:' after the first prompt; write it above the prompts, or write {1}\\: for a prompt that begins " +
        "like that."]:
        "“{0}:”写在了第一条提示词之后；请写在提示词上方，如果提示词就这样开头，请写 {1}\\:。",
    ["'{0}:' cannot begin a line; write it after a prompt: a fox | {1}: ..., or write {2}\\: for a prompt " +
        "that begins like that."]:
        "“{0}:”不能写在行首；请写在提示词之后：a fox | {1}: ...，如果提示词就这样开头，请写 {2}\\:。",
    "nothing after '|'; write one of {0}, or leave it out.": "“|”之后没有内容；请写 {0} 之一，或删去它。",
    "a duration without a prompt; write the prompt after it.": "只有时长而没有提示词；请在后面写提示词。",
    "there is no prompt above this transition.": "这个转场上方没有提示词。",
    "this is the second transition between two prompts; leave one out.": "两条提示词之间有两个转场；请删去一个。",
    "a transition needs a line of its own; write the prompt on the next one.": "转场要单独成行；请把提示词写在下一行。",
    "{0}; write loop: yes or loop: no.": "{0}；请写 loop: yes 或 loop: no。",
    "{0} after cut; write [cut] or [cut gap 5f].": "cut 之后有 {0}；请写 [cut] 或 [cut gap 5f]。",
    "{0} lacks a name or words; write subject: fox, or subject: fox = the red fox.":
        "{0} 缺少名称或词语；请写 subject: fox，或 subject: fox = the red fox。",
    ["{0} is numbered, and the number would become part of the prompt; delete the numbers, or write {1} " +
        "for a prompt that begins with one."]:
        "{0} 带有编号，编号会成为提示词的一部分；请删去编号，如果提示词就以数字开头，请写 {1}。",
    "{0} would become part of the prompt; write the prompt alone; for these words in a prompt write {1}.":
        "{0} 会成为提示词的一部分；请只写提示词；如果提示词中就要这些词，请写 {1}。",
    ["this is a full-width character; write | and : for what a script knows; for these words in a prompt " +
        "write {0}."]:
        "这是全角字符；脚本的标记请用半角 | 和 :；如果提示词中就要这些词，请写 {0}。",
    ["a script has no 'negative prompt:'; write negative: for all prompts, or | negative: for one; for " +
        "these words in a prompt write {0}."]:
        "脚本中没有“negative prompt:”；请写 negative:（全部提示词）或 | negative:（某一条）；如果提示词中就要这些词，请写 {0}。",
    "fps: {0}; it must be larger than 0.": "fps：{0}；必须大于 0。",
    "{0} seconds": "{0} 秒",
    "{0} latent frames": "{0} 个 Latent 帧",
    "{0} frames": "{0} 帧",
};
