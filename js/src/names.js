// SPDX-License-Identifier: MIT
// Words of the interface, in the order of the numbers that the module has for them.

export const STAGES = ['none', 'header', 'tower', 'bridge', 'decoder'];
export const MODULES = ['scalar', 'simd128', 'simd128-threads', 'relaxed', 'relaxed-threads'];
export const FITS = ['model', 'pad', 'crop', 'squash'];
