/**
 * Pictures that travel as sheets: tiles of one size, row by row.
 */

const [HEAT, MASK, STEPS] = [0, 1, 2];
const LEVELS = 256;
const MASK_LEVEL = 180;

export class Sheet {
    /**
     * @param {any} picture Something that can be drawn.
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

/** Heat and masks, which are painted here in their colours. */
export class Maps {
    /**
     * @param {Sheet} sheet
     * @param {number[][]} colours Of the heat from 0 to 1, evenly spaced.
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
     * A tile as a picture: cold places and what is not masked can be seen through.
     * @param {number} tile
     * @param {boolean} masked Whether the mask is wanted, else the heat.
     * @param {number} step Which of the recorded steps' masks, -1 for the last one that was used.
     */
    painted(tile, masked, step) {
        const found = this.values.getImageData(...this.sheet.box(tile));
        const painted = /** @type {any} */ (this.tile.getContext("2d"));
        for (let place = 0; place < found.data.length; place += 4) {
            const inStep = (found.data[place + STEPS] >> step) & 1 ? LEVELS - 1 : 0;
            const value = !masked ? found.data[place + HEAT] : step < 0 ? found.data[place + MASK] : inStep;
            const colour = this.palette[masked ? MASK_LEVEL : value];
            [found.data[place], found.data[place + 1], found.data[place + 2]] = colour;
            found.data[place + 3] = value;
        }
        painted.putImageData(found, 0, 0);
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
 * Loads a picture that the server keeps.
 * @param {any} api
 * @param {{filename: string, subfolder: string, type: string}} file
 */
export async function loadPicture(api, file) {
    const picture = new Image();
    picture.src = api.apiURL(`/view?${new URLSearchParams(file)}`);
    await picture.decode();
    return picture;
}
