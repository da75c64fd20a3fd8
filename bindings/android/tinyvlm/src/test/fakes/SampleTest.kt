// SPDX-License-Identifier: MIT
// Run on a JVM by scripts/test_android.sh, with the sample's classes, which are compiled against android.jar.
package dev.tinyvlm

import android.graphics.Bitmap
import kotlin.test.assertEquals

private val shrink = Class.forName("dev.tinyvlm.sample.VlmWebViewKt").getMethod("shrunk", Bitmap::class.java)

private fun shrunk(width: Int, height: Int): List<Int> {
    val colors = IntArray(width * height) { if (it % width < width / 2) 1 else 2 }
    val small = shrink.invoke(null, Bitmap.of(width, height, Bitmap.Config.ARGB_8888, colors)) as Bitmap
    assertEquals(if (width > 1) listOf(1, 2) else listOf(2, 2), listOf(small.colors.first(), small.colors.last()))
    return listOf(small.width, small.height)
}

/** What goes to the page is 448 pixels at most on its longest side, and keeps its shape. */
fun main() {
    for (same in listOf(listOf(448, 448), listOf(1, 1), listOf(300, 448))) assertEquals(same, shrunk(same[0], same[1]))
    assertEquals(listOf(448, 336), shrunk(4000, 3000))
    assertEquals(listOf(252, 448), shrunk(1080, 1920))
    assertEquals(listOf(448, 447), shrunk(449, 448))
    assertEquals(listOf(448, 1), shrunk(5000, 2))
    println("sample: ok")
}
