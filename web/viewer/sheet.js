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
        const inStep = (/** @type {any} */ data, /** @type {number} */ place) =>
            (data[place + STEPS] >> step) & 1 ? LEVELS - 1 : 0;
        const last = (/** @type {any} */ data, /** @type {number} */ place) => data[place + MASK];
        return this.#painted(tile, step < 0 ? last : inStep, () => this.palette[MASK_LEVEL]);
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
