// SPDX-License-Identifier: MIT
// Run on a JVM by scripts/test_android.sh: java dev.tinyvlm.TinyVlmTestKt MODEL.gguf
package dev.tinyvlm

import java.io.File
import java.nio.ByteBuffer
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking

/** Red above, blue below. */
private fun photo(): Pixels {
    val buffer = ByteBuffer.allocateDirect(160 * 120 * 3)
    for (i in 0 until 160 * 120) {
        buffer.put(if (i < 160 * 60) byteArrayOf(200.toByte(), 30, 30) else byteArrayOf(30, 30, 200.toByte()))
    }
    return Pixels(buffer, 160, 120)
}

private fun residentKib(): Long =
    File("/proc/self/status").readLines().first { it.startsWith("VmRSS:") }.split(Regex("\\s+"))[1].toLong()

private fun answersAreTheSame(vlm: TinyVlm) = runBlocking {
    val whole = vlm.ask(photo(), "What is this?", 16)
    assertTrue(whole.isNotEmpty())
    val pieces = vlm.stream(photo(), "What is this?", 16).toList()
    assertTrue(pieces.size > 1)
    assertEquals(whole, pieces.joinToString(""))
    vlm.encode(photo()).use { image ->
        assertEquals(whole, vlm.ask(image, "What is this?", 16))
        vlm.trim()
        assertEquals(whole, vlm.ask(image, "What is this?", 16))
        assertEquals(pieces.take(1), vlm.stream(image, "What is this?", 16).take(1).toList())
        assertEquals(List(8) { whole }, List(8) { async { vlm.ask(image, "What is this?", 16) } }.awaitAll())
    }
}

private fun stops(vlm: TinyVlm) = runBlocking {
    vlm.encode(photo()).use { image ->
        val words = vlm.ask(image, maxTokens = 16).split(" ")
        assertTrue(words.size > 2)
        assertEquals(words[0], vlm.ask(image, maxTokens = 16, sampling = TinyVlm.Sampling(stop = listOf(" " + words[1]))))
    }
}

private fun cancels(vlm: TinyVlm) = runBlocking {
    var ended: Throwable? = null
    val job = launch {
        try {
            while (true) vlm.ask(photo(), "Describe the image.")
        } catch (e: CancellationException) {
            ended = e
            throw e
        }
    }
    delay(50)
    job.cancelAndJoin()
    assertTrue(ended is CancellationException)
    assertTrue(vlm.stream(photo(), "Describe the image.").first().isNotEmpty())
}

private fun refusals(vlm: TinyVlm, model: String) = runBlocking {
    fun status(path: String, options: TinyVlm.Options = TinyVlm.Options()) =
        assertFailsWith<TinyVlmException> { TinyVlm.load(path, options) }
    status("/no/such.gguf").let {
        assertEquals(TinyVlmException.Status.IO, it.status)
        assertTrue("/no/such.gguf" in it.message!!)
    }
    assertEquals(TinyVlmException.Status.FORMAT, status("/bin/sh").status)
    assertEquals(TinyVlmException.Status.LIMIT, status(model, TinyVlm.Options(memoryLimit = 1_000_000)).status)
    assertEquals(TinyVlmException.Status.ARGUMENT, status(model, TinyVlm.Options(precision = "f17")).status)
    val heap = Pixels(ByteBuffer.allocate(300), 10, 10)
    val small = Pixels(ByteBuffer.allocateDirect(299), 10, 10)
    val large = Pixels(ByteBuffer.allocateDirect(300), Int.MAX_VALUE, Int.MAX_VALUE, 3, Int.MAX_VALUE)
    for (pixels in listOf(heap, small, large)) {
        assertEquals(TinyVlmException.Status.ARGUMENT, assertFailsWith<TinyVlmException> { vlm.ask(pixels) }.status)
    }
    val image = vlm.encode(photo())
    image.close()
    image.close()
    assertEquals(TinyVlmException.Status.STATE, assertFailsWith<TinyVlmException> { vlm.ask(image) }.status)
}

private fun closed(model: String) = runBlocking {
    val vlm = TinyVlm.load(model)
    val image = vlm.encode(photo())
    val asked = async { vlm.ask(image, "What is this?", 8) }
    delay(1)
    image.close() // the call keeps it
    asked.await()
    vlm.close()
    vlm.close()
    assertEquals(TinyVlmException.Status.STATE, assertFailsWith<TinyVlmException> { vlm.ask(photo()) }.status)
}

private fun yuv() {
    fun plane(vararg values: Int) = Plane(ByteBuffer.wrap(ByteArray(values.size) { values[it].toByte() }), 2, 1)
    val grey = yuvPixels(plane(0, 128, 255, 64), plane(128), plane(128), 2, 2)
    assertEquals(listOf(0, 0, 0, 128, 128, 128, 255, 255, 255, 64, 64, 64), List(12) { grey.buffer.get(it).toInt() and 255 })
    val red = yuvPixels(plane(76, 76, 76, 76), plane(85), plane(255), 2, 2)
    assertEquals(listOf(254, 0, 0), List(3) { red.buffer.get(it).toInt() and 255 })
}

private fun flatMemory(vlm: TinyVlm) = runBlocking {
    val pixels = photo() // one: Java gives direct buffers back when it likes
    var before = 0L
    repeat(1000) {
        if (it == 200) before = residentKib()
        vlm.ask(pixels, "Is it red?", 1)
    }
    val grown = residentKib() - before
    assertTrue(grown < 16_000, "$grown KiB more after 800 answers") // the heap of Java moves
}

/** What a model and one answer add to the process, the Java code of the first answer too. */
private fun modelMemory(model: String) = runBlocking {
    val before = residentKib()
    TinyVlm.load(model).use { vlm ->
        vlm.ask(photo(), "Is it red?", 1)
        val mb = (residentKib() - before) * 1024 / 1_000_000
        println("memory: $mb MB")
        assertTrue(mb < 60)
    }
}

fun main(args: Array<String>) {
    val model = args[0]
    modelMemory(model)
    TinyVlm.load(model).use { vlm ->
        assertEquals("tinyvlm", vlm.info.architecture)
        assertEquals(224, vlm.info.imageSize)
        answersAreTheSame(vlm)
        stops(vlm)
        cancels(vlm)
        refusals(vlm, model)
        closed(model)
        yuv()
        flatMemory(vlm)
    }
    println("android: ok")
}
