// SPDX-License-Identifier: MIT
package dev.tinyvlm

import java.nio.ByteBuffer

/** A plane of a YUV image, as android.media.Image has them. */
internal class Plane(val buffer: ByteBuffer, val rowStride: Int, val pixelStride: Int) {
    fun at(x: Int, y: Int): Int = buffer.get(y * rowStride + x * pixelStride).toInt() and 0xff
}

/** BT.601 in full range, as JPEG (JFIF) has it, in 16-bit fixed point; chroma has half the rows and columns. */
internal fun yuvPixels(y: Plane, u: Plane, v: Plane, width: Int, height: Int): Pixels {
    require(width.toLong() * height * 3 <= Int.MAX_VALUE) { "an image of ${width}x$height" }
    val out = ByteBuffer.allocateDirect(width * height * 3)
    for (row in 0 until height) {
        for (column in 0 until width) {
            val luma = y.at(column, row) shl 16
            val cb = u.at(column / 2, row / 2) - 128
            val cr = v.at(column / 2, row / 2) - 128
            out.put(clamp(luma + 91881 * cr))
            out.put(clamp(luma - 22554 * cb - 46802 * cr))
            out.put(clamp(luma + 116130 * cb))
        }
    }
    out.rewind()
    return Pixels(out, width, height)
}

private fun clamp(fixed: Int): Byte = ((fixed + 32768) shr 16).coerceIn(0, 255).toByte()
