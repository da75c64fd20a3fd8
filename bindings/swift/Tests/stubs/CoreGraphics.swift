// SPDX-License-Identifier: MIT
// What TinyVLM uses of Core Graphics. An image holds the RGBA bytes that the test gives it.
public final class CGImage {
    public let width, height: Int
    let bytes: [UInt8]
    public init(width: Int, height: Int, bytes: [UInt8]) { (self.width, self.height, self.bytes) = (width, height, bytes) }
}
public final class CGColorSpace {}
public func CGColorSpaceCreateDeviceRGB() -> CGColorSpace { .init() }
public enum CGImageAlphaInfo: UInt32 { case noneSkipLast = 5 }
public struct CGRect {
    public init(x: Int, y: Int, width: Int, height: Int) {}
    public init() {}
}
/// A rectangle is the whole, a colour is grey.
public final class CGContext {
    private let data: UnsafeMutablePointer<UInt8>, width, height, bytesPerRow: Int
    private var fillColor = 0.0

    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int, space: CGColorSpace,
        bitmapInfo: UInt32
    ) {
        guard let data, bitsPerComponent == 8, bytesPerRow >= width * 4 else { return nil }
        self.data = data.assumingMemoryBound(to: UInt8.self)
        (self.width, self.height, self.bytesPerRow) = (width, height, bytesPerRow)
    }
    public func setFillColor(gray: Double, alpha: Double) { fillColor = gray }
    public func fill(_ rect: CGRect) { each { to, _ in for c in 0..<3 { to[c] = UInt8(fillColor * 255) } } }
    public func draw(_ image: CGImage, in rect: CGRect) {
        each { to, at in
            let alpha = Int(image.bytes[at + 3])
            for c in 0..<3 { to[c] = UInt8((Int(image.bytes[at + c]) * alpha + Int(to[c]) * (255 - alpha)) / 255) }
        }
    }
    private func each(_ pixel: (UnsafeMutablePointer<UInt8>, Int) -> Void) {
        for y in 0..<height { for x in 0..<width { pixel(data + y * bytesPerRow + x * 4, (y * width + x) * 4) } }
    }
}
