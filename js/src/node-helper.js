// SPDX-License-Identifier: MIT
import { parentPort } from 'node:worker_threads';

import { enterThread } from './thread.js';

parentPort.once('message', enterThread);
