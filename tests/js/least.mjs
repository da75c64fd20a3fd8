// SPDX-License-Identifier: MIT

/** The least that count() gives, which is called until it gives less than `enough`: on a busy machine one side runs on for a
 *  while before it hears that the other wants it to stop. */
export async function leastOf(enough, count) {
    let least = Infinity;
    for (let i = 0; i < 10 && least >= enough; i++) least = Math.min(least, await count());
    return least;
}
