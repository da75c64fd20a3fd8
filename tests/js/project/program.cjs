// SPDX-License-Identifier: MIT
import('tinyvlm').then(async ({ FastVLM }) => {
    const model = await FastVLM.load(process.argv[2], { threads: 2 });
    const text = await model.infer(null, 'Hello');
    await model.dispose();
    console.log(JSON.stringify({ text }));
});
