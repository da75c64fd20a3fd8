// SPDX-License-Identifier: MIT
// The worker of a page.
import { serve } from './engine.js';

serve(self, { now: () => performance.now() });
