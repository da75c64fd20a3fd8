// SPDX-License-Identifier: MIT
import Foundation

/// A vision-language model: show it an image, ask about it, get an answer.
///
///     let vlm = try TinyVLM(modelPath: path)
///     let answer = try await vlm.infer(image: photo, prompt: "What is this?")
///
/// All calls may be made from any task. Computations run one after another on a thread of their own, never on Swift's
/// cooperative threads. A call whose task is cancelled ends within a few milliseconds with `CancellationError`. Memory
/// goes when the last reference to the object, its streams and its encoded images does.
public final class TinyVLM: Sendable {
    /// How to load a model.
    public struct Options: Sendable {
        /// 0: one thread per core.
        public var threads: Int = 0
        /// Positions of the conversation's cache; 0: the model's, at most 4096.
        public var contextLength: Int = 0
        /// Bytes that weights, scratch memory and the cache may each take; nil: no limit. What does not fit is an
        /// error before it is allocated.
        public var memoryLimit: Int?
        /// "auto", "f32", "int8", "int16": see docs/PRECISION.md.
        public var precision: String?
        /// The most that `Sampling.beams` may ask for, at most 8; each beyond one has a cache of its own. 0: as many as the
        /// model describes images by.
        public var maxBeams: Int = 0

        public init() {}
    }

    /// How to answer.
    public struct Sampling: Sendable {
        /// 0: always the most likely token.
        public var temperature: Float = 0
        public var topK: Int = 0
        public var topP: Float = 1
        public var seed: UInt64 = 0
        /// Texts that end the answer and are not part of it.
        public var stop: [String] = []
        /// Beam search over so many hypotheses, at most `Options.maxBeams`, without temperature; the answer comes at once, at
        /// its end. 1: none. 0: the model's choice.
        public var beams: Int = 0
        /// Of so many tokens no sequence comes twice; 0: any may.
        public var noRepeatNgram: Int = 0
        /// The answer does not end before there are so many tokens.
        public var minTokens: Int = 1

        public init() {}
    }

    let engine: Engine

    /// Loads a GGUF file. This reads the whole file, so do it off the main thread.
    /// - Parameter useNeuralEngine: runs the vision tower by Core ML where `visionModel`, a program made by tools/coreml
    ///   for this model, is given and Core ML is there; where that fails, by Core ML on the CPU, and where that fails too,
    ///   in the library. `visionBackend` says which. A program made for another model is an error.
    public init(modelPath: String, useNeuralEngine: Bool = true, visionModel: String? = nil, options: Options = .init()) throws {
        engine = try Engine(path: modelPath, options: options)
        tower = try visionModel.flatMap { try Self.coreMLTower($0, modelPath, useNeuralEngine) }
    }

    private static func coreMLTower(_ path: String, _ modelPath: String, _ useNeuralEngine: Bool) throws -> (any VisionTower)? {
        #if canImport(CoreML)
            for units in useNeuralEngine ? [true, false] : [false] {
                do { return try CoreMLTower(path: path, modelPath: modelPath, useNeuralEngine: units) } catch let error as TinyVLMError {
                    throw error // of the program; the others are Core ML's
                } catch {}
            }
        #endif
        return nil
    }

    /// Loads a GGUF file, its tower computed by `tower`.
    public init(modelPath: String, tower: any VisionTower, options: Options = .init()) throws {
        engine = try Engine(path: modelPath, options: options)
        self.tower = tower
    }

    let tower: (any VisionTower)?

    /// Where the vision tower runs, for example "CPU (avx2)" or "Core ML".
    public var visionBackend: String { tower?.name ?? "CPU (\(engine.info.cpuTier))" }

    /// What the file says of itself.
    public var info: ModelInfo { engine.info }

    /// The answer to a question about an image. An empty prompt asks for a description.
    public func infer(image: some ImageSource, prompt: String = "", maxTokens: Int = 256, sampling: Sampling = .init())
        async throws -> String
    {
        try await infer(image: encode(image: image), prompt: prompt, maxTokens: maxTokens, sampling: sampling)
    }

    /// The answer to a question about an image that was encoded before.
    public func infer(image: EncodedImage, prompt: String = "", maxTokens: Int = 256, sampling: Sampling = .init()) async throws
        -> String
    {
        var answer = ""
        for try await text in stream(image: image, prompt: prompt, maxTokens: maxTokens, sampling: sampling) { answer += text }
        try Task.checkCancellation()
        return answer
    }

    /// The answer as it comes, in pieces of whole characters. Leaving the loop, or its task, stops the model. The pixels are
    /// copied before this returns, so a camera may have its buffer back.
    public func stream(image: some ImageSource, prompt: String = "", maxTokens: Int = 256, sampling: Sampling = .init())
        -> AsyncThrowingStream<String, Error>
    {
        do {
            return stream(source: .pixels(try image.rgbImage()), prompt: prompt, maxTokens: maxTokens, sampling: sampling)
        } catch {
            return AsyncThrowingStream { $0.finish(throwing: error) }
        }
    }

    public func stream(image: EncodedImage, prompt: String = "", maxTokens: Int = 256, sampling: Sampling = .init())
        -> AsyncThrowingStream<String, Error>
    {
        stream(source: .encoded(image), prompt: prompt, maxTokens: maxTokens, sampling: sampling)
    }

    /// Encodes an image once, for many questions.
    public func encode(image: some ImageSource) async throws -> EncodedImage {
        let pixels = try image.rgbImage()
        let work = pieces { [tower] engine, cancel, give in _ = give(try engine.encode(pixels, by: tower, cancel: cancel)) }
        for try await encoded in work { return encoded }
        throw CancellationError()
    }

    /// Gives back the memory that the next call takes again, scratch and cache: for `didReceiveMemoryWarning` and the like.
    /// Answers stay the same.
    public func trim() async {
        await withCheckedContinuation { done in
            engine.start { engine in
                engine.trim()
                done.resume()
            }
        }
    }

    private enum Source: Sendable {
        case pixels(RGBImage), encoded(EncodedImage)
    }

    private func stream(source: Source, prompt: String, maxTokens: Int, sampling: Sampling) -> AsyncThrowingStream<String, Error> {
        pieces { [tower] engine, cancel, give in
            let image: EncodedImage
            switch source {
            case .pixels(let pixels): image = try engine.encode(pixels, by: tower, cancel: cancel)
            case .encoded(let encoded): image = encoded
            }
            try engine.answer(image, prompt: prompt, maxTokens: maxTokens, sampling: sampling, cancel: cancel, onText: give)
        }
    }

    /// What `work` gives, in its turn. Who leaves the stream does not wait for it, and stops it.
    private func pieces<Piece: Sendable>(
        _ work: @escaping @Sendable (Engine, Cancel, (Piece) -> Bool) throws -> Void
    ) -> AsyncThrowingStream<Piece, Error> {
        AsyncThrowingStream { continuation in
            let cancel: Cancel
            do { cancel = try Cancel() } catch { return continuation.finish(throwing: error) }
            continuation.onTermination = { _ in cancel.request() }
            engine.start { engine in
                do {
                    try work(engine, cancel) { piece in
                        if case .terminated = continuation.yield(piece) { return false }
                        return true
                    }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
        }
    }
}

/// What the library said: a kind of error, and a line that names the file, field or argument.
public struct TinyVLMError: LocalizedError, Sendable, CustomStringConvertible {
    public enum Kind: Int, Sendable {
        case argument = 1, io, format, unsupported, memory, limit, context, cancelled, checksum, state
        case unknown
    }
    public let kind: Kind
    public let description: String
    public var errorDescription: String? { description }
}

public struct ModelInfo: Sendable {
    public let architecture, name, license, cpuTier: String
    /// The question that an empty prompt asks.
    public let describePrompt: String
    /// Pixels a side of what the tower sees.
    public let imageSize: Int
    public let visionTokens, visionWidth: Int
    public let weightBytes: UInt64
}

/// A vision tower that runs elsewhere than in the library: `pixels` is [imageSize][imageSize][3], the result
/// [visionTokens][visionWidth], for each frame of an image. `run` is called on a thread of a model's own, one call at a
/// time for each model that has this tower.
public protocol VisionTower: Sendable {
    var name: String { get }
    func run(_ pixels: [Float], imageSize: Int) throws -> [Float]
}
