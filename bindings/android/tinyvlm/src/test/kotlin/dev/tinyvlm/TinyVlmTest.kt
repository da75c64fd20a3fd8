// SPDX-License-Identifier: MIT
// Run on a JVM by scripts/test_android.sh: java dev.tinyvlm.TinyVlmTestKt MODEL.gguf SMALL.gguf TEXT-MODEL.gguf
package dev.tinyvlm

import java.io.File
import java.nio.ByteBuffer
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertTrue
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
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

private fun beamsAndLengths(model: String) = runBlocking {
    TinyVlm.load(model, TinyVlm.Options(maxBeams = 4)).use { vlm ->
        vlm.encode(photo()).use { image ->
            suspend fun answer(beams: Int = 1, ngram: Int = 0, min: Int = 1, temperature: Float = 0f) = vlm.ask(
                image, "Describe what you see.", 48,
                TinyVlm.Sampling(temperature, beams = beams, noRepeatNgram = ngram, minTokens = min),
            )
            val greedy = answer()
            val searched = answer(beams = 4)
            vlm.trim()
            assertEquals(searched, answer(beams = 4))
            answer(beams = 1, temperature = 1f) // which a search cannot have
            assertEquals(TinyVlmException.Status.ARGUMENT, assertFailsWith<TinyVlmException> { answer(4, temperature = 1f) }.status)
            val long = answer(min = 48)
            assertTrue(long.startsWith(greedy) && long != greedy, long)
            assertTrue(answer(min = 48, ngram = 1) != long)
            for (wrong in listOf(5, -1)) {
                assertEquals(TinyVlmException.Status.ARGUMENT, assertFailsWith<TinyVlmException> { answer(beams = wrong) }.status)
            }
        }
    }
    val nine = assertFailsWith<TinyVlmException> { TinyVlm.load(model, TinyVlm.Options(maxBeams = 9)) }
    assertEquals(TinyVlmException.Status.ARGUMENT, nine.status)
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

/** A call that waits behind others ends when it is cancelled, not when they do; one cancelled at its start does nothing. */
private fun cancelsWhatWaits(vlm: TinyVlm) = runBlocking {
    val image = vlm.encode(photo())
    val before = List(30) { async(start = CoroutineStart.UNDISPATCHED) { vlm.ask(image) } }
    val asked = async(start = CoroutineStart.UNDISPATCHED) { vlm.ask(image) }
    val seen = async(start = CoroutineStart.UNDISPATCHED) { vlm.encode(photo()) }
    val streamed = async(start = CoroutineStart.UNDISPATCHED) { vlm.stream(image).toList() }
    for (job in listOf(asked, seen, streamed)) job.cancelAndJoin()
    assertFalse(before.last().isCompleted)
    image.close() // the calls keep it
    before.awaitAll()
    val never = launch { vlm.ask(photo()) }
    never.cancel()
    never.join()
}

private fun streamsAgain(vlm: TinyVlm) = runBlocking {
    val image = vlm.encode(photo())
    val flow = vlm.stream(image, "What is this?", 8)
    val (once, twice) = List(2) { async { flow.toList() } }.awaitAll()
    assertEquals(once, twice)
    image.close()
    assertEquals(TinyVlmException.Status.STATE, assertFailsWith<TinyVlmException> { flow.toList() }.status)
}

private fun texts(vlm: TinyVlm) = runBlocking {
    vlm.encode(photo()).use { image ->
        suspend fun status(question: String, maxTokens: Int = 4, sampling: TinyVlm.Sampling = TinyVlm.Sampling()) =
            assertFailsWith<TinyVlmException> { vlm.ask(image, question, maxTokens, sampling) }.status
        for (question in listOf("\u0000 \uD83D\uDE00 \uD83D", "<|im_end|><|im_start|>", "%s%n", "'\"\\\n")) {
            vlm.ask(image, question, 4)
            vlm.stream(image, question, 4).toList()
        }
        assertEquals(TinyVlmException.Status.CONTEXT, status("word ".repeat(20_000)))
        assertEquals(TinyVlmException.Status.LIMIT, status("word ".repeat(300_000)))
        assertEquals(TinyVlmException.Status.ARGUMENT, status("What?", 0))
        assertEquals(TinyVlmException.Status.ARGUMENT, status("What?", -1))
        assertEquals(TinyVlmException.Status.ARGUMENT, status("What?", sampling = TinyVlm.Sampling(topK = -1)))
        assertEquals(TinyVlmException.Status.ARGUMENT, status("What?", sampling = TinyVlm.Sampling(temperature = Float.NaN)))
        assertEquals(TinyVlmException.Status.ARGUMENT, status("What?", sampling = TinyVlm.Sampling(stop = listOf("", "a\u0000b"))))
    }
}

private fun refusals(vlm: TinyVlm, model: String, textModel: String) = runBlocking {
    fun status(path: String, options: TinyVlm.Options = TinyVlm.Options()) =
        assertFailsWith<TinyVlmException> { TinyVlm.load(path, options) }
    status("/no/such.gguf").let {
        assertEquals(TinyVlmException.Status.IO, it.status)
        assertTrue("/no/such.gguf" in it.message!!)
    }
    assertEquals(TinyVlmException.Status.FORMAT, status("/bin/sh").status)
    assertEquals(TinyVlmException.Status.LIMIT, status(model, TinyVlm.Options(memoryLimit = 1_000_000)).status)
    assertEquals(TinyVlmException.Status.LIMIT, status(model, TinyVlm.Options(memoryLimit = -1)).status)
    for (options in listOf(
        TinyVlm.Options(precision = "f17"), TinyVlm.Options(precision = "f32\u0000"), TinyVlm.Options(threads = -1),
        TinyVlm.Options(contextLength = -1),
    )) {
        assertEquals(TinyVlmException.Status.ARGUMENT, status(model, options).status)
    }
    assertEquals(TinyVlmException.Status.ARGUMENT, status("$model\u0000.txt").status)
    val short = File.createTempFile("short", ".gguf")
    short.writeBytes(File(model).inputStream().use { it.readNBytes(1_000_000) })
    assertEquals(TinyVlmException.Status.FORMAT, status(short.path).status)
    short.delete()
    TinyVlm.load(textModel).use { blind ->
        assertEquals(TinyVlmException.Status.UNSUPPORTED, assertFailsWith<TinyVlmException> { blind.ask(photo()) }.status)
    }
    val heap = Pixels(ByteBuffer.allocate(300), 10, 10)
    val small = Pixels(ByteBuffer.allocateDirect(299), 10, 10)
    val large = Pixels(ByteBuffer.allocateDirect(300), Int.MAX_VALUE, Int.MAX_VALUE, 3, Int.MAX_VALUE)
    val two = Pixels(ByteBuffer.allocateDirect(200), 10, 10, 2)
    val negative = Pixels(ByteBuffer.allocateDirect(300), 10, 10, 3, -30)
    for (pixels in listOf(heap, small, large, two, negative)) {
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

/** Threads that close and call at once: calls are answered or refused, the model is freed once. */
private fun closesInRaces(small: String) = runBlocking(Dispatchers.Default) {
    repeat(300) {
        val vlm = TinyVlm.load(small, TinyVlm.Options(threads = 1))
        List(8) {
            async {
                if (it % 2 == 0) return@async vlm.close()
                try {
                    while (true) vlm.trim()
                } catch (e: TinyVlmException) {
                    assertEquals(TinyVlmException.Status.STATE, e.status)
                }
            }
        }.awaitAll()
    }
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
    println("memory: $grown KiB more after 800 answers")
    assertTrue(grown < 4_000) // of 64 MB of heap that were touched before, Java's own compiler and the like
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
    val (model, small, textModel) = args
    modelMemory(model)
    TinyVlm.load(model).use { vlm ->
        assertEquals("tinyvlm", vlm.info.architecture)
        assertEquals(224, vlm.info.imageSize)
        answersAreTheSame(vlm)
        stops(vlm)
        beamsAndLengths(model)
        cancels(vlm)
        cancelsWhatWaits(vlm)
        streamsAgain(vlm)
        texts(vlm)
        refusals(vlm, model, textModel)
        closed(model)
        closesInRaces(small)
        yuv()
        bitmaps()
        frames()
        flatMemory(vlm)
    }
    println("android: ok")
}
