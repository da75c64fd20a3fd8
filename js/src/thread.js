// SPDX-License-Identifier: MIT

/** { module, memory, stack, tls, index }: never returns. stack: its upper end. */
export function enterThread({ module, memory, stack, tls, index }) {
    const env = { memory, now: () => performance.now(), token: () => {}, cancelled: () => 0 };
    const { exports } = new WebAssembly.Instance(module, { env });
    exports.__stack_pointer.value = stack;
    exports.__wasm_init_tls(tls);
    exports.thread_main(index);
}
