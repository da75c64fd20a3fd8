// SPDX-License-Identifier: MIT
// Greedy decoding by the logits alone, the same in node and in pages.

/** The logits of ids, and the count ids that follow, each the likeliest. */
export async function greedy(model, picture, ids, count) {
    const image = await model.encodeImage(picture);
    const all = [...ids];
    let first;
    while (all.length < ids.length + count) {
        const { logits, positions, vocabulary } = await model.forward(image, all);
        first ??= { logits, positions, vocabulary };
        const last = logits.subarray((positions - 1) * vocabulary);
        all.push(last.indexOf(Math.max(...last)));
    }
    await image.dispose();
    return { ...first, ids: all.slice(ids.length) };
}
