/**
 * What a run says of itself in Chinese, by the English (kvshare_core/host/sampling/notices.py). In braces stand numbers and
 * words that are put in; those with + are messages themselves, those with & names, or a message.
 */

/** What stands between names of a list. */
export const BETWEEN_NAMES = "、";

/** @type {Record<string, string>} */
export const NOTICES = {
    "nothing was shared, for the reason above.": "没有任何共享，原因见上。",
    "nothing was shared: {0+}": "没有任何共享：{0}",
    "only {0} of {1} steps shared, for the reason above.": "{1} 步中只有 {0} 步共享，原因见上。",
    "only {0} of {1} steps shared: {2+}": "{1} 步中只有 {0} 步共享：{2}",
    "only {0} of {1} blocks shared in {2} of {3} steps, for the reason above.":
        "{3} 步中有 {2} 步，{1} 个块中只有 {0} 个共享，原因见上。",
    "only {0} of {1} blocks shared in {2} of {3} steps: {4+}": "{3} 步中有 {2} 步，{1} 个块中只有 {0} 个共享：{4}",
    ["none of this run's steps is among those that the configuration names. Change start_percent, end_percent or " +
        "step_idx in KV Sharing Config, or the steps of the sampler."]:
        "此次运行的步都不在配置指定的步之中。请更改“共享配置”中的 start_percent、end_percent 或 step_idx，或采样器的步数。",
    ["the subject was found in the last step that was to share, and masks are used from the next one on. Give the " +
        "sampler more steps, or widen start_percent and end_percent in KV Sharing Config."]:
        "主体在最后一个要共享的步中才找到，而遮罩从下一步起才使用。请增加采样器的步数，或在“共享配置”中扩大 start_percent 到 end_percent 的范围。",
    ["{0&} answered in place of the model, so a segment neither attended to others nor gave them its keys, and it may " +
        "have been given what another segment left. Take it off the model."]:
        "有节点代替模型作了回答（{0}），因此某个分段既没有关注其他分段，也没有向它们提供键，还可能得到了另一个分段留下的结果。请将它从模型上移除。",
    "{0&} answered in place of the model. Take it off the model, or let it begin after the steps that share.":
        "有节点代替模型作了回答（{0}）。请将它从模型上移除，或让它在共享的步之后才开始。",
    "{0&} skipped the other steps. Take it off the model, or let it begin after the steps that share.":
        "其余的步被跳过（{0}）。请将跳过它们的节点从模型上移除，或让它在共享的步之后才开始。",
    "{0&} left blocks of the model out. Take it off the model.": "模型的一些块被省略（{0}）。请将省略它们的节点从模型上移除。",
    "segments that others attend to were left out. Take nodes off the model that skip evaluations.":
        "其他分段所关注的分段被省略了。请从模型上移除跳过推理的节点。",
    "the subject was not found. Name it in Mask-Guided KV Share by other words of the prompt, or connect a mask.":
        "没有找到主体。请在“遮罩引导 KV 共享”中用提示词里的其他词语指明它，或连接遮罩。",
    "no two segments show the same subject. Name a subject that several prompts have.":
        "没有两个分段出现同一主体。请指定多条提示词都有的主体。",
    ["{0&} keeps what the model returned last for the whole film, but a film is evaluated segment by segment, so that " +
        "each segment is given what another left. Take it off the model; EasyCache and LazyCache of ComfyUI can stay."]:
        "{0} 为整部影片保留模型上一次的结果，但影片是逐个分段推理的，因此每个分段得到的是另一个分段留下的结果。请将它从模型上移除；ComfyUI 的 " +
        "EasyCache 和 LazyCache 可以保留。",
    ["{0&} keep what the model returned last for the whole film, but a film is evaluated segment by segment, so that " +
        "each segment is given what another left. Take them off the model; EasyCache and LazyCache of ComfyUI can stay."]:
        "{0} 各自为整部影片保留模型上一次的结果，但影片是逐个分段推理的，因此每个分段得到的是另一个分段留下的结果。请将它们从模型上移除；ComfyUI 的 " +
        "EasyCache 和 LazyCache 可以保留。",
    ["{0&} is still in the loaded model, where it replaced the model's own function when its node last ran. Remove " +
        "that node if it is there, then restart ComfyUI."]:
        "{0} 仍留在已加载的模型中：其节点上次运行时替换了模型自身的函数。如果该节点还在，请将其删除，然后重启 ComfyUI。",
    ["{0&} are still in the loaded model, where they replaced the model's own functions when their nodes last ran. " +
        "Remove those nodes if they are there, then restart ComfyUI."]:
        "{0} 仍留在已加载的模型中：它们的节点上次运行时替换了模型自身的函数。如果这些节点还在，请将其删除，然后重启 ComfyUI。",
    "another node, such as a step cache,": "另一个节点，例如步缓存",
    "another node, of {0&},": "来自 {0} 的另一个节点",
    "Another node, of {0&},": "来自 {0} 的另一个节点",
    "another node": "另一个节点",
    "Another node": "另一个节点",
    "out of memory; keys and values stay in system RAM from here on.": "显存不足；从现在起键和值保留在系统内存中。",
    "out of memory; keys and values are kept in fp8 from here on, which changes the video slightly.":
        "内存不足；从现在起键和值以 fp8 保存，视频会略有变化。",
    "out of memory; shared attention is computed in smaller pieces from here on.":
        "显存不足；从现在起共享注意力分成更小的部分计算。",
    ["the conditioning does not come from Long Video Segmenter; its subject cannot be followed. Connect the " +
        "segmenter's, or a mask to Mask-Guided KV Share."]:
        "条件不是来自“长视频分段器”，无法跟踪其主体。请连接该分段器的条件，或将遮罩连接到“遮罩引导 KV 共享”。",
    ["another node evaluates conditioning of its own; it is left unshared. Connect the conditioning of Long Video " +
        "Segmenter alone."]:
        "另一个节点用自己的条件进行推理；这部分不共享。请只连接“长视频分段器”的条件。",
    ["conditioning for a part of the frame is left unshared. Connect the conditioning of Long Video Segmenter " +
        "alone."]:
        "只用于部分画面的条件不共享。请只连接“长视频分段器”的条件。",
    ["negative conditioning was evaluated before the prompt's or together with another's; it is left unshared " +
        "there."]:
        "负面条件在提示词的条件之前、或与其他条件一起推理；在那里不共享。",
    "the sampler's noise is not that of its seed, so the seeds of single prompts are ignored.":
        "采样器的噪声与其种子不符，因此忽略单条提示词的种子。",
    ["the model takes an image, but prompt {0} begins without one, so what it shows is made up. Give it one with Long " +
        "Video Beat Images."]:
        "模型需要图像，但提示词 {0} 开始时没有图像，因此其画面是凭空生成的。请用“长视频提示词图像”为它提供一张。",
    "hiding the subject's words changed nothing in segment {0}; it is not followed there.":
        "在分段 {0} 中隐藏主体的词语没有引起任何变化；在那里不跟踪主体。",
    "the prompt has more tokens than the model received; its subject cannot be followed.":
        "提示词的 token 比模型收到的多，无法跟踪其主体。",
    "the prompt has no tokens but those of the subject; its subject cannot be followed.":
        "提示词中除主体之外没有别的 token，无法跟踪其主体。",
    "{0}: attention comes with a mask that hides video or depends on the query; {1+}":
        "{0}：注意力带有遮罩，它会隐藏视频内容或随查询而变；{1}",
    "it is left unshared. Take off guide frames, or the node that adds the mask.":
        "这里不共享。请去掉引导帧，或移除添加该遮罩的节点。",
    "its subject is not read.": "不读取其主体。",
    "its subject cannot be followed.": "无法跟踪其主体。",
    "its prompts are left unrouted.": "其提示词不会逐帧变化。",
    "the words of its prompt are left unweighed.": "不改变其提示词中词语的权重。",
    "the prompt has more tokens than the model received; its words are left unweighed.":
        "其 token 比模型收到的多，因此不改变词语的权重。",
    "every word of the prompt has weight 0; its words are left unweighed.": "所有词语的权重都是 0，因此不改变词语的权重。",
    "the words of a prompt are not known, so there are no maps of them. Encode prompts by Long Video Segmenter.":
        "提示词的词语未知，因此没有对词语的注意力图。请用“长视频分段器”编码提示词。",
    ["{0}: an attention call {1+}; it is left unshared. {2+} makes it, or a newer ComfyUI. Take that node off the " +
        "model, or update KV Share."]:
        "{0}：一次注意力调用{1}；它不共享。它由{2}或较新的 ComfyUI 产生。请将该节点从模型上移除，或更新 KV Share。",
    "does not begin with query, key and value": "不以查询、键和值开头",
    "has {0} arguments without a name": "有 {0} 个没有名称的参数",
    "does not say how many heads it has": "没有说明有多少个头",
    "has a mask of another kind": "的遮罩类型不同",
    "has a scale of another kind": "的缩放类型不同",
    "has tensors of other shapes": "的张量形状不同",
    "{0}: an attention call has {1+}. {2+} adds or changes it; {3+}.": "{0}：一次注意力调用有问题：{1}。它由{2}添加或更改；{3}。",
    "only that call is left unshared": "只有这次调用不共享",
    "this model, whose calls can only be counted, is left unshared. Take that node off the model":
        "此模型的调用只能靠计数辨认，因此整个模型不共享。请将该节点从模型上移除",
    "and as it could be the model's own, its block is left unshared. Take that node off the model":
        "由于它也可能是模型自身的调用，其所在的块不共享。请将该节点从模型上移除",
    "no place among those that the model's own blocks make": "它不在模型自身各块的调用之中",
    "no block to belong to": "它不属于任何块",
    "no layout of its sequence": "其序列没有布局",
    "no mask over its {0} keys, as many as video and text tokens each":
        "其 {0} 个键没有遮罩，而视频和文本的 token 各有这么多",
    "a mask, which self-attention over a video without guides does not have": "它带有遮罩，而没有引导帧的视频自注意力没有遮罩",
    "{0} batch rows where the evaluation has {1}": "批次有 {0} 行，而推理有 {1} 行",
    "{0} tokens instead of {1} ({2})": "有 {0} 个 token，应为 {1}（{2}）",
    "{0} tokens of {1+} instead of {2}": "{1}有 {0} 个 token，应为 {2}",
    "{0} queries and {1} keys in a joint attention": "联合注意力中有 {0} 个查询和 {1} 个键",
    "{0} query and {1} key tokens instead of {2} and {3}": "有 {0} 个查询 token 和 {1} 个键 token，应为 {2} 和 {3}",
    "{0} query and {1} key tokens where the text has {2}": "有 {0} 个查询 token 和 {1} 个键 token，而文本有 {2}",
    "{0} query tokens where the video has {1} and reference images {2}": "有 {0} 个查询 token，而视频有 {1}，参考图像有 {2}",
    "{0} query tokens where the {1+} has {2}": "有 {0} 个查询 token，而{1}有 {2}",
    "{0} key tokens where a frame's audio has {1}": "有 {0} 个键 token，而一帧的音频有 {1}",
    "{0} key tokens where the {1+} has {2}": "有 {0} 个键 token，而{1}有 {2}",
    "{0} key tokens in a self-attention over {1}": "对 {1} 个 token 的自注意力中有 {0} 个键 token",
    "{0} key tokens in a cross-attention to {1} text tokens": "对 {1} 个文本 token 的交叉注意力中有 {0} 个键 token",
    "heads of {0} channels where {1+} attends to {2+} with {3}": "头有 {0} 个通道，而{1}关注{2}时为 {3}",
    "video": "视频",
    "text": "文本",
    "audio": "音频",
};
