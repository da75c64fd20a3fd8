// SPDX-License-Identifier: MIT
package dev.tinyvlm

import java.nio.ByteBuffer
import java.util.concurrent.CancellationException
import java.util.concurrent.Executors
import kotlin.coroutines.resumeWithException
import kotlinx.coroutines.ExperimentalCoroutinesApi
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.channels.awaitClose
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.callbackFlow
import kotlinx.coroutines.suspendCancellableCoroutine

/** What the library said: a kind of error, and a line that names the file, field or argument. */
class TinyVlmException(val status: Status, message: String) : Exception(message) {
    enum class Status {
        OK, ARGUMENT, IO, FORMAT, UNSUPPORTED, MEMORY, LIMIT, CONTEXT, CANCELLED, CHECKSUM, STATE, UNKNOWN
    }

    /** Called by jni.c. */
    internal constructor(status: Int, message: ByteArray) :
        this(Status.entries.getOrElse(status) { Status.UNKNOWN }, String(message, Charsets.UTF_8))
}

/**
 * Pixels with 8 bits a channel, top row first, in a direct buffer, which is read in place from its beginning and must
 * not change until the call that was given it ends. channels: 1 grey, 3 RGB, 4 RGBA, whose alpha is dropped.
 */
class Pixels(val buffer: ByteBuffer, val width: Int, val height: Int, val channels: Int = 3, val stride: Int = width * channels)

class ModelInfo internal constructor(
    val architecture: String, val name: String, val license: String, val cpuTier: String,
    val imageSize: Int, val visionTokens: Int, val visionWidth: Int, val weightBytes: Long,
)

/**
 * A vision-language model: show it an image, ask about it, get an answer.
 *
 *     TinyVlm.load(path).use { vlm -> println(vlm.ask(pixels, "What is this?")) }
 *
 * Calls may come from any coroutine or thread. Computations run one after another on a thread of the object's own. A
 * call whose coroutine is cancelled ends within milliseconds, with CancellationException. Calls after [close] fail with
 * TinyVlmException (STATE).
 */
class TinyVlm private constructor(private val handle: Long) : AutoCloseable {
    /**
     * threads 0: one a core. contextLength 0: the model's, at most 4096. memoryLimit: bytes for each of weights, scratch
     * and cache; null: no limit. precision: docs/PRECISION.md. maxBeams: the most that Sampling.beams may ask for, at most
     * 8, each beyond one with a cache of its own; 0: as many as the model describes images by.
     */
    class Options(
        val threads: Int = 0, val contextLength: Int = 0, val memoryLimit: Long? = null, val precision: String? = null,
        val maxBeams: Int = 0,
    )

    /**
     * temperature 0: always the most likely token. stop: texts that end the answer and are not part of it. beams: beam search
     * over so many hypotheses, without temperature; the answer comes at once, at its end; 1: none, 0: the model's choice.
     * noRepeatNgram: of so many tokens no sequence comes twice; 0: any may. minTokens: the answer does not end before there
     * are so many.
     */
    class Sampling(
        val temperature: Float = 0f, val topK: Int = 0, val topP: Float = 1f, val seed: Long = 0,
        val stop: List<String> = emptyList(), val beams: Int = 0, val noRepeatNgram: Int = 0, val minTokens: Int = 1,
    )

    private val executor = Executors.newSingleThreadExecutor { Thread(it, "tinyvlm").apply { isDaemon = true } }

    val info: ModelInfo

    init {
        val texts = List(4) { Native.text(handle, it).decodeToString() }
        val numbers = Native.numbers(handle)
        info = ModelInfo(
            texts[0], texts[1], texts[2], texts[3], numbers[0].toInt(), numbers[1].toInt(), numbers[2].toInt(), numbers[3],
        )
    }

    /** Looks at an image once, for many questions. Close it when there are no more. */
    suspend fun encode(pixels: Pixels): EncodedImage = run { cancel -> encodeNow(pixels, cancel) }

    /** The answer to a question about an image. An empty question asks for a description. */
    suspend fun ask(pixels: Pixels, question: String = "", maxTokens: Int = 256, sampling: Sampling = Sampling()): String =
        run { cancel -> encodeNow(pixels, cancel).use { answer(it, question, maxTokens, sampling, cancel) } }

    suspend fun ask(image: EncodedImage, question: String = "", maxTokens: Int = 256, sampling: Sampling = Sampling()): String =
        run(image) { cancel -> answer(image, question, maxTokens, sampling, cancel) }

    /** The answer as it comes, in pieces of whole characters; who stops collecting stops the model. */
    fun stream(pixels: Pixels, question: String = "", maxTokens: Int = 256, sampling: Sampling = Sampling()): Flow<String> =
        flow { cancel, emit -> encodeNow(pixels, cancel).use { answer(it, question, maxTokens, sampling, cancel, emit) } }

    fun stream(image: EncodedImage, question: String = "", maxTokens: Int = 256, sampling: Sampling = Sampling()): Flow<String> =
        flow(image) { cancel, emit -> answer(image, question, maxTokens, sampling, cancel, emit) }

    /** For onTrimMemory: gives back the memory that the next call takes again, scratch and cache. Answers stay the same. */
    suspend fun trim() = run { Native.trim(handle) }

    /** Frees the model behind the calls that were made before. Images outlive it. */
    override fun close() {
        synchronized(executor) {
            if (executor.isShutdown) return
            executor.execute { Native.close(handle) }
            executor.shutdown()
        }
    }

    private fun encodeNow(pixels: Pixels, cancel: Cancel) = cancel.use {
        EncodedImage(
            Native.encode(handle, pixels.buffer, pixels.width, pixels.height, pixels.channels, pixels.stride, it),
        )
    }

    private fun answer(
        image: EncodedImage, question: String, maxTokens: Int, sampling: Sampling, cancel: Cancel,
        emit: (String) -> Unit = {},
    ): String {
        val counts = with(sampling) { intArrayOf(maxTokens, topK, beams, noRepeatNgram, minTokens) }
        if (maxTokens < 1 || counts.any { it < 0 }) {
            throw TinyVlmException(
                TinyVlmException.Status.ARGUMENT,
                "maxTokens, topK, beams, noRepeatNgram, minTokens are ${counts.joinToString()}: the first at least 1, all at least 0",
            )
        }
        val text = StringBuilder()
        val stop = Array(sampling.stop.size) { sampling.stop[it].encodeToByteArray() }
        cancel.use {
            Native.ask(
                handle, image.raw, question.encodeToByteArray(), counts, sampling.temperature, sampling.topP, sampling.seed,
                stop, it,
            ) { bytes ->
                val piece = bytes.decodeToString()
                text.append(piece)
                emit(piece)
                true
            }
        }
        return text.toString()
    }

    /** Behind the calls before it. The image lives until the work is done, which may be after its coroutine is cancelled. */
    private fun execute(image: EncodedImage?, work: () -> Unit) {
        val hold = image?.hold()
        synchronized(executor) { // nothing comes between freeing and shutdown
            if (!executor.isShutdown) return executor.execute { hold.use { work() } }
        }
        hold?.close()
        throw TinyVlmException(TinyVlmException.Status.STATE, "the model is closed")
    }

    @OptIn(ExperimentalCoroutinesApi::class)
    private suspend fun <T> run(image: EncodedImage? = null, work: (Cancel) -> T): T = suspendCancellableCoroutine { continuation ->
        val cancel = Cancel()
        continuation.invokeOnCancellation { cancel.request() }
        execute(image) {
            val result = runCatching { work(cancel) }
            result.onSuccess { value -> continuation.resume(value) { (value as? EncodedImage)?.close() } }
            result.onFailure { continuation.resumeWithException(translated(it)) }
        }
    }

    private fun flow(image: EncodedImage? = null, work: (Cancel, (String) -> Unit) -> Unit): Flow<String> = callbackFlow {
        val cancel = Cancel()
        execute(image) {
            val result = runCatching { work(cancel) { trySend(it) } }
            close(result.exceptionOrNull()?.let(::translated))
        }
        awaitClose { cancel.request() }
    }.buffer(Channel.UNLIMITED) // an answer is short, and the model must not wait for its reader

    private fun translated(e: Throwable): Throwable =
        if (e is TinyVlmException && e.status == TinyVlmException.Status.CANCELLED) CancellationException(e.message) else e

    companion object {
        /** Loads a GGUF file. This reads the whole file: call it off the main thread. */
        fun load(path: String, options: Options = Options()): TinyVlm {
            val handle = Native.load(
                path.encodeToByteArray(), options.precision?.encodeToByteArray(), options.threads,
                options.contextLength, options.maxBeams, options.memoryLimit?.coerceAtLeast(0) ?: Long.MAX_VALUE,
            )
            return runCatching { TinyVlm(handle) }.onFailure { Native.close(handle) }.getOrThrow()
        }
    }
}

/** An image that the model has looked at: ask about it as often as you like. A call keeps it that began before [close]. */
class EncodedImage internal constructor(internal val raw: Long) : AutoCloseable {
    private var holders = 1 // the owner, until it closes
    private var closed = false

    internal fun hold(): AutoCloseable = synchronized(this) {
        if (closed) throw TinyVlmException(TinyVlmException.Status.STATE, "the image is closed")
        holders++
        AutoCloseable(::drop)
    }

    override fun close() {
        synchronized(this) {
            if (closed) return
            closed = true
        }
        drop()
    }

    private fun drop() {
        if (synchronized(this) { --holders } == 0) Native.freeImage(raw)
    }
}

/** A flag that stops one call. It goes with the call; a request after that does nothing. */
private class Cancel {
    private var requested = false
    private var raw = 0L

    @Synchronized fun request() {
        requested = true
        if (raw != 0L) Native.requestCancel(raw)
    }

    fun <R> use(body: (Long) -> R): R {
        val mine = Native.newCancel()
        synchronized(this) {
            raw = mine
            if (requested) Native.requestCancel(mine)
        }
        try {
            return body(mine)
        } finally {
            synchronized(this) { raw = 0 }
            Native.freeCancel(mine)
        }
    }
}
