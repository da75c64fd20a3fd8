// SPDX-License-Identifier: MIT
package dev.tinyvlm

import android.graphics.Bitmap
import android.graphics.ImageFormat
import android.media.Image
import java.nio.ByteBuffer
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith

private fun Pixels.rgb() = List(height) { y -> List(width) { x -> List(3) { buffer.get(y * stride + x * channels + it).toInt() and 255 } } }

private val RED = listOf(255, 0, 0)
private val BLUE = listOf(0, 0, 255)
private val PINK = listOf(255, 127, 127)

/** Whatever screen a bitmap was made for, and wherever it lies. */
internal fun bitmaps() {
    val colors = intArrayOf(0xffff0000.toInt(), 0xff0000ff.toInt(), 0x80ff0000.toInt(), 0x0000ff00)
    for (config in Bitmap.Config.values()) {
        for (density in listOf(420, 160, 640)) {
            val pixels = Pixels(Bitmap.of(2, 2, config, colors).also { it.density = density })
            assertEquals(listOf(listOf(RED, BLUE), listOf(PINK, List(3) { 255 })), pixels.rgb(), "$config, density $density")
        }
    }
}

/** Planes side by side, or the colours of each pixel together, with rows that are longer than the image. */
internal fun frames() {
    fun bytes(vararg values: Int) = ByteBuffer.wrap(ByteArray(values.size) { values[it].toByte() })
    val y = Image.Plane(bytes(76, 76, 29, 29, 0, 76, 76, 29, 29, 0, 76, 76, 76, 76, 0, 76, 76, 76, 76), 5, 1)
    val apart = arrayOf(y, Image.Plane(bytes(85, 255, 0, 85, 85), 3, 1), Image.Plane(bytes(255, 107, 0, 255, 255), 3, 1))
    val together = arrayOf(y, Image.Plane(bytes(85, 255, 255, 107, 85, 255, 85), 4, 2), Image.Plane(bytes(255, 255, 107, 85, 255, 85, 255), 4, 2))
    for (planes in listOf(apart, together)) {
        val image = Image(ImageFormat.YUV_420_888, 4, 4, planes)
        fun seen(rotation: Int) = Pixels(image, rotation).rgb().map { row -> row.map { if (it[2] > 200) 'b' else 'r' }.joinToString("") }
        assertEquals(listOf("rrbb", "rrbb", "rrrr", "rrrr"), seen(0))
        assertEquals(listOf("rrrr", "rrrr", "rrbb", "rrbb"), seen(90))
        assertEquals(listOf("rrrr", "rrrr", "bbrr", "bbrr"), seen(180))
        assertEquals(listOf("bbrr", "bbrr", "rrrr", "rrrr"), seen(270))
    }
    val wide = Pixels(Image(ImageFormat.YUV_420_888, 4, 2, apart), 90)
    assertEquals(listOf(2, 4, 6), listOf(wide.width, wide.height, wide.stride))
    assertFailsWith<IllegalArgumentException> { Pixels(Image(ImageFormat.YUV_420_888, 4, 4, apart), 45) }
    assertFailsWith<IllegalArgumentException> { Pixels(Image(256, 4, 4, apart)) }
}
