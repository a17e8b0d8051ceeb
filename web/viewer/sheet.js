/**
 * Frames and maps sent as sheets: tiles of one size, row by row.
 */

const [HEAT, MASK, STEPS] = [0, 1, 2];
/** Maps without a mask (a point's) have the heat of the point's own frame in this channel. */
const OWN_HEAT = MASK;
const LEVELS = 256;
const MASK_LEVEL = 180;

export class Sheet {
    /**
     * @param {any} picture An image that a canvas can draw.
     * @param {[number, number]} size Width and height of a tile.
     * @param {number} columns
     */
    constructor(picture, size, columns) {
        this.picture = picture;
        this.size = size;
        this.columns = columns;
    }

    /**
     * Left, top, width and height of a tile.
     * @param {number} tile
     * @returns {[number, number, number, number]}
     */
    box(tile) {
        const [width, height] = this.size;
        return [(tile % this.columns) * width, Math.floor(tile / this.columns) * height, width, height];
    }
}

/** Heatmaps and masks, coloured here. */
export class Maps {
    /**
     * @param {Sheet} sheet
     * @param {number[][]} colours Colours of the heat from 0 to 1, evenly spaced.
     */
    constructor(sheet, colours) {
        this.sheet = sheet;
        this.palette = paletteOf(colours);
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [sheet.picture.naturalWidth, sheet.picture.naturalHeight];
        this.values = /** @type {any} */ (canvas.getContext("2d", { willReadFrequently: true }));
        this.values.drawImage(sheet.picture, 0, 0);
        this.tile = document.createElement("canvas");
        [this.tile.width, this.tile.height] = sheet.size;
    }

    /**
     * The heatmap of a tile as an image, transparent where it is cold.
     * @param {number} tile
     * @param {boolean} [own] Whether to show only the point's own frame.
     */
    heat(tile, own = false) {
        const warm = (/** @type {number} */ value) => this.palette[value];
        return this.#painted(tile, (data, place) => data[place + (own ? OWN_HEAT : HEAT)], warm);
    }

    /**
     * The mask of a tile as an image, transparent outside the mask.
     * @param {number} tile
     * @param {number} step Index of the recorded step, -1 for the last mask used.
     */
    mask(tile, step) {
        return this.#painted(tile, maskOf(step), () => this.palette[MASK_LEVEL]);
    }

    /**
     * The outline of a tile's mask, as lines [x1, y1, x2, y2] in fractions of its width and height, and the part of the
     * frame that lies in it.
     * @param {number} tile
     * @param {number} step As in `mask`.
     * @returns {{lines: number[][], part: number}}
     */
    outline(tile, step) {
        const { data, width, height } = this.values.getImageData(...this.sheet.box(tile));
        const value = maskOf(step);
        const inside = (/** @type {number} */ x, /** @type {number} */ y) =>
            x >= 0 && y >= 0 && x < width && y < height && value(data, 4 * (y * width + x)) >= LEVELS / 2;
        const lines = [];
        let count = 0;
        for (let y = 0; y <= height; y++) {
            for (let x = 0; x <= width; x++) {
                const here = inside(x, y);
                count += Number(here);
                if (here !== inside(x - 1, y)) {
                    lines.push([x / width, y / height, x / width, (y + 1) / height]);
                }
                if (here !== inside(x, y - 1)) {
                    lines.push([x / width, y / height, (x + 1) / width, y / height]);
                }
            }
        }
        return { lines, part: count / (width * height) };
    }

    /**
     * @param {number} tile
     * @param {(data: any, place: number) => number} valueOf Opacity at a place.
     * @param {(value: number) => number[]} colourOf
     */
    #painted(tile, valueOf, colourOf) {
        const found = this.values.getImageData(...this.sheet.box(tile));
        for (let place = 0; place < found.data.length; place += 4) {
            const value = valueOf(found.data, place);
            [found.data[place], found.data[place + 1], found.data[place + 2]] = colourOf(value);
            found.data[place + 3] = value;
        }
        /** @type {any} */ (this.tile.getContext("2d")).putImageData(found, 0, 0);
        return this.tile;
    }
}

/**
 * The opacity of the mask at a place of the sheet.
 * @param {number} step Index of the recorded step, -1 for the last mask used.
 * @returns {(data: any, place: number) => number}
 */
function maskOf(step) {
    return step < 0
        ? (data, place) => data[place + MASK]
        : (data, place) => ((data[place + STEPS] >> step) & 1 ? LEVELS - 1 : 0);
}

/**
 * @param {number[][]} colours
 */
function paletteOf(colours) {
    return Array.from({ length: LEVELS }, (_, level) => {
        const place = (level / (LEVELS - 1)) * (colours.length - 1);
        const lower = Math.min(Math.floor(place), colours.length - 2);
        return colours[lower].map((low, part) => 255 * (low + (colours[lower + 1][part] - low) * (place - lower)));
    });
}

/**
 * Loads an image from the server.
 * @param {any} api
 * @param {{filename: string, subfolder: string, type: string}} file
 */
export async function loadPicture(api, file) {
    const picture = new Image();
    picture.src = api.apiURL(`/view?${new URLSearchParams(file)}`);
    await picture.decode();
    return picture;
}
