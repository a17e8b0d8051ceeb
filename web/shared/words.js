/**
 * The editor's and the viewer's own words in the languages of the pack. English is the key; what has no translation, such
 * as a user's words, stays as it is.
 */

/** @type {Record<string, string>} */
const ZH = {
    "+ Beat": "+ 提示词",
    Split: "拆分",
    Duplicate: "复制",
    Delete: "删除",
    Fit: "适应",
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
    Timeline: "时间线",
    "Plan of the run": "运行计划",
    "Join lines": "合并为一行",
    Duration: "时长",
    Transition: "转场",
    "Subject words": "主体词语",
    "More of this beat": "此提示词的更多设置",
    Strength: "强度",
    Source: "来源",
    "Negative prompt": "负面提示词",
    Seed: "种子",
    default: "默认",
    "one segment": "一个分段",
    Length: "长度",
    Segments: "分段",
    Sharing: "共享",
    "Keys and values": "键和值",
    "Shared attention": "共享注意力",
    "Extra computation": "额外计算",
    "First step": "第一步",
    off: "关闭",
    Subject: "主体",
    Draw: "显示方式",
    heat: "热力图",
    mask: "遮罩",
    Step: "步",
    Segment: "分段",
    Opacity: "不透明度",
    Frame: "帧",
    "This frame only": "仅此帧",
    Point: "选点",
    "Choose a point: its attention map is shown after the next run": "选择一个点：下次运行后显示它的注意力图",
    "Run the workflow to see where the subject was found.": "运行工作流后，这里显示找到主体的位置。",
    "No beats yet. Write one prompt per line above, or add a beat.": "还没有提示词。请在上方每行写一条，或点击添加。",
};

/** @type {Record<string, string>} */
const JA = {
    "+ Beat": "+ プロンプト",
    Split: "分割",
    Duplicate: "複製",
    Delete: "削除",
    Fit: "全体",
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
    Timeline: "タイムライン",
    "Plan of the run": "実行の計画",
    "Join lines": "一行にまとめる",
    Duration: "長さ",
    Transition: "トランジション",
    "Subject words": "被写体の語",
    "More of this beat": "このプロンプトの詳細",
    Strength: "強さ",
    Source: "参照元",
    "Negative prompt": "ネガティブ",
    Seed: "シード",
    default: "既定",
    "one segment": "一セグメント",
    Length: "長さ",
    Segments: "セグメント",
    Sharing: "共有",
    "Keys and values": "キーと値",
    "Shared attention": "共有アテンション",
    "Extra computation": "追加の計算",
    "First step": "最初のステップ",
    off: "オフ",
    Subject: "被写体",
    Draw: "表示",
    heat: "ヒート",
    mask: "マスク",
    Step: "ステップ",
    Segment: "セグメント",
    Opacity: "不透明度",
    Frame: "フレーム",
    "This frame only": "このフレームのみ",
    Point: "点",
    "Choose a point: its attention map is shown after the next run": "点を選ぶと、次の実行後にそのアテンションマップを表示します",
    "Run the workflow to see where the subject was found.": "ワークフローを実行すると、被写体が見つかった場所を表示します。",
    "No beats yet. Write one prompt per line above, or add a beat.": "まだプロンプトがありません。上に一行ずつ書くか、追加してください。",
};

export const TRANSLATIONS = { zh: ZH, ja: JA };

let table = /** @type {Record<string, string>} */ ({});

/**
 * Says everything that is made from now on in a language of the frontend.
 * @param {string} language Such as zh or ja; English for one that is not known.
 */
export function speak(language) {
    table = /** @type {Record<string, Record<string, string>>} */ (TRANSLATIONS)[language] ?? {};
}

/**
 * Words of the editor or the viewer in the user's language.
 * @param {string} text
 * @returns {string}
 */
export function said(text) {
    return Object.hasOwn(table, text) ? table[text] : text;
}
