// SPDX-License-Identifier: MIT
package dev.tinyvlm

import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.ImageFormat
import android.media.Image
import java.nio.ByteBuffer

/** A bitmap of any configuration, blended on white. */
fun Pixels(bitmap: Bitmap): Pixels {
    val opaque = Bitmap.createBitmap(bitmap.width, bitmap.height, Bitmap.Config.ARGB_8888)
    Canvas(opaque).apply {
        drawColor(Color.WHITE)
        drawBitmap(bitmap, 0f, 0f, null)
    }
    val buffer = ByteBuffer.allocateDirect(opaque.rowBytes * opaque.height)
    opaque.copyPixelsToBuffer(buffer) // ARGB_8888 lies in memory as R, G, B, A
    val stride = opaque.rowBytes
    opaque.recycle()
    return Pixels(buffer, bitmap.width, bitmap.height, 4, stride)
}

/** A camera frame in YUV_420_888 (camera2, ImageReader), which may be closed after; BT.601, full range. */
fun Pixels(image: Image): Pixels {
    require(image.format == ImageFormat.YUV_420_888) { "an image of format ${image.format}, not YUV_420_888" }
    val (y, u, v) = image.planes.map { Plane(it.buffer, it.rowStride, it.pixelStride) }
    return yuvPixels(y, u, v, image.width, image.height)
}
