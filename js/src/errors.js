// SPDX-License-Identifier: MIT

/** See tinyvlm.d.ts for the codes. */
export class TinyVLMError extends Error {
    constructor(message, code, options) {
        super(message, options);
        this.name = 'TinyVLMError';
        this.code = code;
    }
}
