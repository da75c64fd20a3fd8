// SPDX-License-Identifier: MIT
import CTinyVLM

/// Pixels with 8 bits a channel, top row first.
public struct RGBImage: Sendable {
    public let width, height: Int
    /// 1 grey, 3 RGB, 4 RGBA. Alpha is dropped: blend transparent images on white first.
    public let channels: Int
    public let bytesPerRow: Int
    public let bytes: [UInt8]

    /// - Parameter bytesPerRow: 0: rows lie side by side.
    public init(width: Int, height: Int, channels: Int = 3, bytesPerRow: Int = 0, bytes: [UInt8]) throws {
        let (row, over) = width.multipliedReportingOverflow(by: channels)
        let stride = bytesPerRow == 0 ? row : bytesPerRow
        let (before, tooMany) = stride.multipliedReportingOverflow(by: max(height - 1, 0))
        guard width > 0, height > 0, width <= Int(Int32.max), height <= Int(Int32.max), [1, 3, 4].contains(channels), !over,
            !tooMany, stride >= row, before <= bytes.count - row
        else {
            throw TinyVLMError(
                kind: .argument,
                description: "an image of \(width)x\(height), \(channels) channels, rows of \(stride) bytes in \(bytes.count) bytes")
        }
        self.width = width
        self.height = height
        self.channels = channels
        self.bytesPerRow = stride
        self.bytes = bytes
    }

    func withPixels<R>(_ body: (UnsafePointer<tvlm_pixels>) throws -> R) rethrows -> R {
        try bytes.withUnsafeBufferPointer { buffer in
            var pixels = zeroed(tvlm_pixels.self)
            pixels.data = buffer.baseAddress
            pixels.width = UInt32(width)
            pixels.height = UInt32(height)
            pixels.channels = UInt32(channels)
            pixels.stride = bytesPerRow
            return try body(&pixels)
        }
    }
}

#if canImport(CoreGraphics)
    import CoreGraphics

    extension RGBImage {
        /// Any CGImage, blended on white. Its orientation is that of the pixels: UIImage's must be applied before.
        public init(_ image: CGImage) throws {
            let width = image.width, height = image.height, row = width * 4
            var bytes = [UInt8](repeating: 255, count: row * height)
            let drawn = bytes.withUnsafeMutableBytes { buffer -> Bool in
                guard
                    let context = CGContext(
                        data: buffer.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: row,
                        space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
                else { return false }
                let all = CGRect(x: 0, y: 0, width: width, height: height)
                context.setFillColor(gray: 1, alpha: 1)
                context.fill(all)
                context.draw(image, in: all)
                return true
            }
            guard drawn else { throw TinyVLMError(kind: .memory, description: "no bitmap of \(width)x\(height)") }
            try self.init(width: width, height: height, channels: 4, bytes: bytes)
        }
    }

    extension TinyVLM {
        public func infer(image: CGImage, prompt: String = "", maxTokens: Int = 256, sampling: Sampling = .init()) async throws
            -> String
        {
            try await infer(image: RGBImage(image), prompt: prompt, maxTokens: maxTokens, sampling: sampling)
        }

        public func encode(image: CGImage) async throws -> EncodedImage { try await encode(image: RGBImage(image)) }
    }
#endif

#if canImport(CoreVideo)
    import CoreVideo

    extension RGBImage {
        /// A camera frame with 32-bit BGRA pixels (`kCVPixelFormatType_32BGRA`); the pixels are copied.
        public init(_ buffer: CVPixelBuffer) throws {
            guard CVPixelBufferGetPixelFormatType(buffer) == kCVPixelFormatType_32BGRA else {
                throw TinyVLMError(
                    kind: .unsupported, description: "a pixel buffer that is not 32BGRA: set the camera output's videoSettings")
            }
            guard CVPixelBufferLockBaseAddress(buffer, .readOnly) == kCVReturnSuccess else {
                throw TinyVLMError(kind: .io, description: "the pixel buffer cannot be locked")
            }
            defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
            let width = CVPixelBufferGetWidth(buffer), height = CVPixelBufferGetHeight(buffer)
            let stride = CVPixelBufferGetBytesPerRow(buffer)
            guard let base = CVPixelBufferGetBaseAddress(buffer) else {
                throw TinyVLMError(kind: .io, description: "the pixel buffer has no memory")
            }
            var bytes = [UInt8](repeating: 0, count: width * height * 3)
            let source = base.assumingMemoryBound(to: UInt8.self)
            for y in 0..<height {
                for x in 0..<width {
                    let from = y * stride + x * 4, to = (y * width + x) * 3
                    bytes[to] = source[from + 2]
                    bytes[to + 1] = source[from + 1]
                    bytes[to + 2] = source[from]
                }
            }
            try self.init(width: width, height: height, bytes: bytes)
        }
    }

    extension TinyVLM {
        public func infer(image: CVPixelBuffer, prompt: String = "", maxTokens: Int = 256, sampling: Sampling = .init())
            async throws -> String
        {
            try await infer(image: RGBImage(image), prompt: prompt, maxTokens: maxTokens, sampling: sampling)
        }

        public func encode(image: CVPixelBuffer) async throws -> EncodedImage { try await encode(image: RGBImage(image)) }
    }
#endif
