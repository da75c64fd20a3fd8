// SPDX-License-Identifier: MIT
// One more thread of the engine: enters the module and stays there until it is terminated.
import { enterThread } from './thread.js';

self.onmessage = ({ data }) => enterThread(data);
