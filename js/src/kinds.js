// SPDX-License-Identifier: MIT
// What a file is, by its first bytes: for saying why it is refused.

/** So many bytes tell. */
export const HEAD_BYTES = 256 << 10;

export const UNKNOWN = 'a file of an unknown kind';

const PICTURE = { isPicture: true };

// [name, pattern of the first bytes as Latin-1, more], the first that fits
const KINDS = [
    ['a JPEG image', /^\xff\xd8\xff/, { ...PICTURE, size: jpegSize }],
    ['a PNG image', /^\x89PNG\r\n/, { ...PICTURE, size: pngSize }],
    ['a GIF image', /^GIF8[79]a/, PICTURE],
    ['a WebP image', /^RIFF....WEBP/s, PICTURE],
    ['a BMP image', /^BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0/s, PICTURE],
    ['an AVIF image', /^....ftyp.{0,56}avi[fs]/s, { ...PICTURE, isRare: true }],
    ['a HEIC image', /^....ftyp(hei[cxms]|hev[cxms]|mif1|msf1|mif2)/s, { ...PICTURE, isRare: true }],
    ['a camera raw image', /^(....ftypcrx|FUJIFILMCCD-RAW|II\x1a\0\0\0HEAPCCDR|IIRO|IIRS|IIU\0|\0MRM|II\*\0.{4}CR)/s, { ...PICTURE, isRare: true }],
    ['a TIFF or camera raw image', /^(II\*\0|MM\0\*|II\+\0|MM\0\+)/, { ...PICTURE, isRare: true }],
    ['a JPEG XL image', /^(\xff\x0a|\0\0\0\x0cJXL )/, { ...PICTURE, isRare: true }],
    ['a JPEG 2000 image', /^(\0\0\0\x0cjP {2}|\xff\x4f\xff\x51)/, { ...PICTURE, isRare: true }],
    ['a Photoshop image', /^8BPS/, { ...PICTURE, isRare: true }],
    ['a PNM image', /^P[1-7]\s/, { ...PICTURE, isRare: true }],
    ['an icon', /^\0\0[\x01\x02]\0.\0/s, PICTURE],
    ['an SVG drawing', /^(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?(<!--.*?-->\s*)*<svg[\s>]/s, { ...PICTURE, isVector: true }],
    ['a PDF document', /^.{0,1024}%PDF-/s],
    ['a PostScript document', /^%!PS/],
    ['a video', /^(....(ftyp|moov|mdat|wide)|\x1a\x45\xdf\xa3|RIFF....AVI |\0\0\x01[\xba\xb3]|FLV\x01|OggS.{24,32}(\x80theora|\x01video)|\x30\x26\xb2\x75|\x47.{187}\x47)/s],
    ['a sound', /^(ID3|\xff[\xe2-\xfb]|RIFF....WAVE|OggS|fLaC|MThd|#!AMR|FORM....AIF)/s],
    ['an Office document', /^(\xd0\xcf\x11\xe0|PK\x03\x04.{26}(\[Content_Types\]|_rels\/|mimetype))/s],
    ['an archive', /^(PK[\x03\x05\x07]|\x1f\x8b|Rar!|7z\xbc\xaf|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar)/s],
    ['a program', /^(\x7fELF|MZ|\xcf\xfa\xed\xfe|\xca\xfe\xba\xbe|\0asm)/],
    ['a model file', /^GGUF/],
    ['a web page', /^(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body)/is],
];

function pngSize(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return bytes.length < 24 ? null : [view.getUint32(16), view.getUint32(20)];
}

/** From the frame header, whose place only the segments before it tell. */
function jpegSize(bytes) {
    const word = (at) => bytes[at] << 8 | bytes[at + 1];
    for (let at = 2; at + 9 < bytes.length; at += 2 + word(at + 2)) {
        while (bytes[at] === 0xff && bytes[at + 1] === 0xff) at++;
        const mark = bytes[at + 1];
        if (bytes[at] !== 0xff || mark === 0xda) return null;
        if (mark >= 0xc0 && mark <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(mark)) return [word(at + 7), word(at + 5)];
    }
    return null;
}

function isText(bytes) {
    const head = bytes.subarray(0, 1024);
    if (head.some((byte) => byte < 32 && ![9, 10, 12, 13, 27].includes(byte))) return /^(\xff\xfe|\xfe\xff)/.test(latin1(head));
    try {
        new TextDecoder('utf-8', { fatal: true }).decode(head, { stream: true });
        return true;
    } catch {
        return false;
    }
}

const latin1 = (bytes) => String.fromCharCode(...bytes.subarray(0, 4096));

/** { name, isPicture, isRare: browsers differ in whether they read it, isVector, pixels: [width, height] where told } */
export function kindOf(bytes) {
    const head = latin1(bytes);
    const [name, , about] = KINDS.find(([, pattern]) => pattern.test(head)) ?? [];
    if (name) return { name, ...about, pixels: about?.size?.(bytes) };
    return { name: isText(bytes) ? 'a text file' : UNKNOWN };
}

/** Why it is not read, in words. reader: what could not. */
export function refusalOf(kind, reader) {
    if (!kind.isPicture) return `${kind.name}, not an image`;
    if (kind.isRare || kind.isVector) return `${kind.name}: ${reader} cannot show it; convert it to JPEG`;
    if (kind.pixels?.[0] * kind.pixels?.[1] > 1e8)
        return `${kind.name} of ${kind.pixels.join(' x ')} pixels: larger than ${reader} can show, or damaged`;
    return `${kind.name} that is damaged: ${reader} cannot show it`;
}
