// SPDX-License-Identifier: MIT
import CTinyVLM
import Dispatch

/// A flag that stops a call of the library; any thread may raise it, as it is atomic, which makes it Sendable.
final class Cancel: @unchecked Sendable {
    let raw: OpaquePointer

    init() throws {
        guard let raw = tvlm_cancel_new() else { throw TinyVLMError(kind: .memory, description: "out of memory") }
        self.raw = raw
    }
    deinit { tvlm_cancel_free(raw) }
    func request() { tvlm_cancel_request(raw) }
    func check() throws { if tvlm_cancel_requested(raw) { throw CancellationError() } }
}

/// An image that the model has looked at: ask about it as often as you like, in any task. Nothing changes it, which makes
/// it Sendable.
public final class EncodedImage: @unchecked Sendable {
    let raw: OpaquePointer

    init(_ raw: OpaquePointer) { self.raw = raw }
    deinit { tvlm_image_free(raw) }
}

/// A C struct of zeros. (Swift has no such initialiser where pointers are never NULL once the library has written them.)
func zeroed<T>(_: T.Type) -> T {
    withUnsafeTemporaryAllocation(byteCount: MemoryLayout<T>.size, alignment: MemoryLayout<T>.alignment) { bytes in
        bytes.initializeMemory(as: UInt8.self, repeating: 0)
        return bytes.load(as: T.self)
    }
}

/// Runs `body`; what it returns is the library's status, and the error is thrown.
func check(_ body: (UnsafeMutablePointer<tvlm_error>) -> tvlm_status) throws {
    var error = zeroed(tvlm_error.self)
    let status = body(&error)
    if status == .TVLM_OK { return }
    if status == .TVLM_ERR_CANCELLED { throw CancellationError() }
    let text = withUnsafeBytes(of: error.message) { bytes in String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }
    throw TinyVLMError(kind: .init(rawValue: Int(status.rawValue)) ?? .unknown, description: text)
}

/// Model, engine and one conversation. Used on its queue alone, which makes it Sendable.
final class Engine: @unchecked Sendable {
    let info: ModelInfo
    private let queue = DispatchQueue(label: "tinyvlm", qos: .userInitiated)
    private var model, engine, session: OpaquePointer?

    init(path: String, options: TinyVLM.Options) throws {
        try ([path] + [options.precision].compactMap { $0 }).forEach(checkTerminated)
        let limit = options.memoryLimit.map { max($0, 0) } ?? Int.max
        var m = zeroed(tvlm_model_params.self)
        tvlm_model_params_init(&m, MemoryLayout<tvlm_model_params>.size)
        m.max_memory = limit
        m.n_threads = UInt32(clamping: options.threads)
        var opened: OpaquePointer?
        try withOptionalCString(options.precision) { precision in
            m.precision = precision
            try check { tvlm_model_open(path, &m, &opened, $0) }
        }
        var raw = zeroed(tvlm_model_info.self)
        raw.size = MemoryLayout<tvlm_model_info>.size
        defer { tvlm_model_free(opened) }
        try check { tvlm_model_get_info(opened!, &raw, $0) }
        info = ModelInfo(raw)

        var e = zeroed(tvlm_engine_params.self)
        tvlm_engine_params_init(&e, MemoryLayout<tvlm_engine_params>.size)
        e.n_threads = UInt32(clamping: options.threads)
        e.max_memory = limit
        var s = zeroed(tvlm_session_params.self)
        tvlm_session_params_init(&s, MemoryLayout<tvlm_session_params>.size)
        s.n_ctx = UInt32(clamping: options.contextLength)
        s.max_memory = limit
        s.max_beams = UInt32(clamping: options.maxBeams)
        var made: OpaquePointer?, talk: OpaquePointer?
        try check { tvlm_engine_new(opened!, &e, &made, $0) }
        do { try check { tvlm_session_new(opened!, &s, &talk, $0) } } catch {
            tvlm_engine_free(made)
            throw error
        }
        model = opened
        opened = nil
        engine = made
        session = talk
    }

    deinit {
        tvlm_session_free(session)
        tvlm_engine_free(engine)
        tvlm_model_free(model)
    }

    func start(_ work: @escaping @Sendable (Engine) -> Void) {
        queue.async { work(self) }
    }

    // On the queue:

    func trim() {
        tvlm_session_trim(session)
        tvlm_engine_trim(engine)
    }

    func encode(_ image: RGBImage, by tower: (any VisionTower)?, cancel: Cancel) throws -> EncodedImage {
        var p = zeroed(tvlm_encode_params.self)
        tvlm_encode_params_init(&p, MemoryLayout<tvlm_encode_params>.size)
        p.cancel = cancel.raw
        var out: OpaquePointer?
        try image.withPixels { pixels in
            guard let tower else { return try check { tvlm_image_encode(engine!, pixels, &p, &out, $0) } }
            let vision = try look(pixels, tower, &p, cancel)
            try check {
                tvlm_image_from_vision(
                    engine!, vision, vision.count / info.visionWidth, info.visionWidth, pixels.pointee.width,
                    pixels.pointee.height, &p, &out, $0)
            }
        }
        return EncodedImage(out!)
    }

    private func look(
        _ pixels: UnsafePointer<tvlm_pixels>, _ tower: any VisionTower, _ p: inout tvlm_encode_params, _ cancel: Cancel
    ) throws -> [Float] {
        let side = info.imageSize, frame = side * side * 3
        var input = [Float](repeating: 0, count: tvlm_preprocess_floats(model!, pixels, &p))
        try check { tvlm_preprocess(model!, pixels, &p, &input, input.count, $0) }
        var vision: [Float] = []
        for start in stride(from: 0, to: input.count, by: frame) {
            try cancel.check()
            vision += try tower.run(Array(input[start..<start + frame]), imageSize: side)
        }
        return vision
    }

    func answer(
        _ image: EncodedImage, prompt question: String, maxTokens: Int, sampling: TinyVLM.Sampling, cancel: Cancel,
        onText: (String) -> Bool
    ) throws {
        try sampling.stop.forEach(checkTerminated)
        let prompt = try render(image, question)
        defer { tvlm_prompt_free(prompt) }
        var p = zeroed(tvlm_generate_params.self)
        tvlm_generate_params_init(&p, MemoryLayout<tvlm_generate_params>.size)
        p.max_tokens = UInt32(clamping: maxTokens)
        p.cancel = cancel.raw
        p.sampling.temperature = sampling.temperature
        p.sampling.top_k = UInt32(clamping: sampling.topK)
        p.sampling.top_p = sampling.topP
        p.sampling.seed = sampling.seed
        p.sampling.no_repeat_ngram = UInt32(clamping: sampling.noRepeatNgram)
        p.beams = UInt32(clamping: sampling.beams)
        p.min_tokens = UInt32(clamping: sampling.minTokens)
        try withoutActuallyEscaping(onText) { onText in
            var sink = Sink(onText: onText)
            try withUnsafeMutablePointer(to: &sink) { sink in
                p.user = UnsafeMutableRawPointer(sink)
                p.on_text = { user, text, len in
                    let bytes = UnsafeRawBufferPointer(start: text, count: len)
                    return user!.assumingMemoryBound(to: Sink.self).pointee.onText(String(decoding: bytes, as: UTF8.self))
                }
                try withCStrings(sampling.stop) { stop in
                    p.stop = stop.baseAddress
                    p.n_stop = stop.count
                    try check { tvlm_generate(engine!, session!, prompt, &p, nil, $0) }
                }
            }
        }
    }

    private struct Sink {
        let onText: (String) -> Bool
    }

    private func render(_ image: EncodedImage, _ question: String) throws -> OpaquePointer {
        defer { withExtendedLifetime(image) {} }
        var prompt: OpaquePointer?
        try check { tvlm_prompt_new(model!, &prompt, $0) }
        do {
            var text = question.isEmpty ? info.describePrompt : question
            try text.withUTF8 { bytes in
                var images: OpaquePointer? = image.raw
                try withUnsafePointer(to: &images) { images in
                    try bytes.withMemoryRebound(to: CChar.self) { chars in
                        var message = zeroed(tvlm_message.self)
                        message.role = .TVLM_ROLE_USER
                        message.text = chars.baseAddress
                        message.len = chars.count
                        message.images = images
                        message.n_images = 1
                        try check { tvlm_prompt_chat(prompt!, &message, 1, $0) }
                    }
                }
            }
        } catch {
            tvlm_prompt_free(prompt)
            throw error
        }
        return prompt!
    }
}

extension ModelInfo {
    init(_ raw: tvlm_model_info) {
        func text(_ p: UnsafePointer<CChar>?) -> String { p.map { String(cString: $0) } ?? "" }
        architecture = text(raw.architecture)
        name = text(raw.name)
        license = text(raw.license)
        cpuTier = text(raw.cpu_tier)
        describePrompt = text(raw.describe_prompt)
        imageSize = Int(raw.image_size)
        visionTokens = Int(raw.n_vision_tokens)
        visionWidth = Int(raw.vision_dim)
        weightBytes = raw.weight_bytes
    }
}

func withOptionalCString<R>(_ text: String?, _ body: (UnsafePointer<CChar>?) throws -> R) rethrows -> R {
    guard let text else { return try body(nil) }
    return try text.withCString(body)
}

/// A text that its terminator alone ends.
func checkTerminated(_ text: String) throws {
    guard !text.utf8.contains(0) else {
        throw TinyVLMError(kind: .argument, description: "a path, precision or stop has a zero character")
    }
}

/// The texts, terminated, for the time of the call.
func withCStrings<R>(_ texts: [String], _ body: (UnsafeBufferPointer<UnsafePointer<CChar>?>) throws -> R) rethrows -> R {
    let bytes = texts.flatMap { Array($0.utf8CString) }
    return try bytes.withUnsafeBufferPointer { all in
        var at = 0
        let starts = texts.map { text -> UnsafePointer<CChar>? in
            defer { at += text.utf8.count + 1 }
            return all.baseAddress! + at
        }
        return try starts.withUnsafeBufferPointer(body)
    }
}

/// Whether the library takes the file, whose tensors then have the shapes that its keys say.
func checkModel(_ path: String) throws {
    var params = zeroed(tvlm_model_params.self)
    tvlm_model_params_init(&params, MemoryLayout<tvlm_model_params>.size)
    params.header_only = true
    var model: OpaquePointer?
    try check { tvlm_model_open(path, &params, &model, $0) }
    tvlm_model_free(model)
}
