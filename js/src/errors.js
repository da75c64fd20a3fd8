// SPDX-License-Identifier: MIT

/** See tinyvlm.d.ts for the codes. */
export class TinyVLMError extends Error {
    constructor(message, code, options) {
        super(message, options);
        this.name = 'TinyVLMError';
        this.code = code;
    }
}

export function wrong(message, options) {
    return new TinyVLMError(message, 'argument', options);
}

/** What a signal stopped: with the name that the DOM has for it. */
export function cancelled({ reason }) {
    const error = new TinyVLMError(reason?.message || 'the call was stopped', 'cancelled', { cause: reason });
    error.name = reason?.name === 'TimeoutError' ? 'TimeoutError' : 'AbortError';
    return error;
}
