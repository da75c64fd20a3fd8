// SPDX-License-Identifier: MIT
package android.media

import java.nio.ByteBuffer

class Image(val format: Int, val width: Int, val height: Int, val planes: Array<Plane>) {
    class Plane(val buffer: ByteBuffer, val rowStride: Int, val pixelStride: Int)
}
