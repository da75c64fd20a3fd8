// SPDX-License-Identifier: MIT
package dev.tinyvlm

import java.nio.ByteBuffer

/** A plane of a YUV image, as android.media.Image has them. */
internal class Plane(val buffer: ByteBuffer, val rowStride: Int, val pixelStride: Int) {
    fun at(x: Int, y: Int): Int = buffer.get(y * rowStride + x * pixelStride).toInt() and 0xff
}

/**
 * BT.601 in full range, as JPEG (JFIF) has it, in 16-bit fixed point; chroma has half the rows and columns. Turned
 * clockwise by `rotation` degrees: 0, 90, 180 or 270.
 */
internal fun yuvPixels(y: Plane, u: Plane, v: Plane, width: Int, height: Int, rotation: Int = 0): Pixels {
    require(width.toLong() * height <= Int.MAX_VALUE / 3) { "an image of ${width}x$height" }
    require(rotation in 0..270 && rotation % 90 == 0) { "a rotation of $rotation degrees" }
    val lies = rotation % 180 != 0
    val outWidth = if (lies) height else width
    val outHeight = if (lies) width else height
    val out = ByteBuffer.allocateDirect(width * height * 3)
    for (row in 0 until outHeight) {
        for (column in 0 until outWidth) {
            val across = if (lies) row else column
            val down = if (lies) column else row
            val sx = if (rotation >= 180) width - 1 - across else across
            val sy = if (rotation == 90 || rotation == 180) height - 1 - down else down
            val luma = y.at(sx, sy) shl 16
            val cb = u.at(sx / 2, sy / 2) - 128
            val cr = v.at(sx / 2, sy / 2) - 128
            out.put(clamp(luma + 91881 * cr))
            out.put(clamp(luma - 22554 * cb - 46802 * cr))
            out.put(clamp(luma + 116130 * cb))
        }
    }
    out.rewind()
    return Pixels(out, outWidth, outHeight)
}

private fun clamp(fixed: Int): Byte = ((fixed + 32768) shr 16).coerceIn(0, 255).toByte()
