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

/// What becomes an image: `RGBImage`, and where there are such, `CGImage` and `CVPixelBuffer`. Your own types may, too.
public protocol ImageSource {
    /// A copy of the pixels, upright.
    func rgbImage() throws -> RGBImage
}

extension RGBImage: ImageSource {
    public func rgbImage() -> RGBImage { self }
}
