// SPDX-License-Identifier: MIT
// What Images.kt uses of Android, as its documentation says it behaves, to run it on a JVM.
package android.graphics

import java.nio.ByteBuffer

class Bitmap private constructor(val width: Int, val height: Int, val config: Config) {
    enum class Config { ARGB_8888, HARDWARE }

    var density = 420 // of the device
    val rowBytes = 4 * width + 8
    internal val colors = IntArray(width * height) // ARGB, not premultiplied

    fun copy(config: Config, isMutable: Boolean): Bitmap = of(width, height, config, colors).also { it.density = density }

    fun copyPixelsToBuffer(to: ByteBuffer) {
        for (y in 0 until height) {
            to.position(y * rowBytes)
            for (color in colors.slice(y * width until (y + 1) * width)) {
                for (shift in listOf(16, 8, 0, 24)) to.put((color shr shift).toByte())
            }
        }
    }

    fun recycle() = Unit

    companion object {
        /** Nearest pixels. The filter looks at four neighbours, so half is the least. */
        @JvmStatic fun createScaledBitmap(from: Bitmap, width: Int, height: Int, filter: Boolean): Bitmap {
            require(filter && 2 * width >= from.width - 1 && 2 * height >= from.height - 1) { "pixels that the filter does not see" }
            val colors = IntArray(width * height) { from.colors[it / width * from.height / height * from.width + it % width * from.width / width] }
            return of(width, height, from.config, colors)
        }

        fun createBitmap(width: Int, height: Int, config: Config) = Bitmap(width, height, config)

        fun of(width: Int, height: Int, config: Config, colors: IntArray) =
            Bitmap(width, height, config).also { colors.copyInto(it.colors) }
    }
}

class Canvas(private val to: Bitmap) {
    fun drawColor(color: Int) = to.colors.fill(color)

    fun drawBitmap(bitmap: Bitmap, left: Float, top: Float, paint: Any?) {
        require(bitmap.config != Bitmap.Config.HARDWARE) { "software rendering does not support hardware bitmaps" }
        for (y in 0 until to.height) {
            for (x in 0 until to.width) {
                val fromX = x * bitmap.density / to.density
                val fromY = y * bitmap.density / to.density
                if (fromX < bitmap.width && fromY < bitmap.height) blend(y * to.width + x, bitmap.colors[fromY * bitmap.width + fromX])
            }
        }
    }

    private fun blend(at: Int, color: Int) {
        val alpha = color ushr 24
        fun mix(shift: Int): Int = ((color shr shift and 255) * alpha + (to.colors[at] shr shift and 255) * (255 - alpha)) / 255 shl shift
        to.colors[at] = 255 shl 24 or mix(16) or mix(8) or mix(0)
    }
}

object Color {
    const val WHITE = -1
}

object ImageFormat {
    const val YUV_420_888 = 35
}
