// Makes a component of `provisioner.js`: `node build.js [OUTPUT [WIT-FOLDER]]`.

import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const [output = 'javascript-provisioner.wasm', witPath = '../../wit'] = process.argv.slice(2);

const { component, imports } = await componentize({
  sourcePath: 'provisioner.js',
  witPath,
  worldName: 'docker-provisioner',
  // All of them: the engine in the component then imports nothing of WASI.
  disableFeatures: ['clocks', 'fetch-event', 'http', 'random', 'stdio'],
});
await writeFile(output, component);
console.log(`${output}: ${component.length} bytes`);
