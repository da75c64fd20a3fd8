// SPDX-License-Identifier: MIT
package dev.tinyvlm

import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.ImageFormat
import android.media.Image
import java.nio.ByteBuffer

/** A bitmap of any configuration, blended on white. Its pixels are copied. */
fun Pixels(bitmap: Bitmap): Pixels {
    val opaque = Bitmap.createBitmap(bitmap.width, bitmap.height, Bitmap.Config.ARGB_8888)
    opaque.density = bitmap.density // else it is scaled as it is drawn
    val isPlain = bitmap.config == Bitmap.Config.ARGB_8888 // one in the GPU's memory (HARDWARE) cannot be drawn
    val drawable = if (isPlain) bitmap else checkNotNull(bitmap.copy(Bitmap.Config.ARGB_8888, false))
    Canvas(opaque).apply {
        drawColor(Color.WHITE)
        drawBitmap(drawable, 0f, 0f, null)
    }
    if (!isPlain) drawable.recycle()
    val buffer = ByteBuffer.allocateDirect(opaque.rowBytes * opaque.height)
    opaque.copyPixelsToBuffer(buffer) // ARGB_8888 lies in memory as R, G, B, A
    val stride = opaque.rowBytes
    opaque.recycle()
    return Pixels(buffer, bitmap.width, bitmap.height, 4, stride)
}

/**
 * A camera frame in YUV_420_888 (camera2, ImageReader), which may be closed after; BT.601, full range. `rotation`: degrees
 * clockwise to turn it upright, 0, 90, 180 or 270: sensors lie in most phones (SENSOR_ORIENTATION).
 */
fun Pixels(image: Image, rotation: Int = 0): Pixels {
    require(image.format == ImageFormat.YUV_420_888) { "an image of format ${image.format}, not YUV_420_888" }
    val (y, u, v) = image.planes.map { Plane(it.buffer, it.rowStride, it.pixelStride) }
    return yuvPixels(y, u, v, image.width, image.height, rotation)
}
