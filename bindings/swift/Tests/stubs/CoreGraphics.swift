// SPDX-License-Identifier: MIT
// What TinyVLM uses of Apple's frameworks, to type-check it where they are not: nothing runs.
public final class CGImage {
    public let width = 0, height = 0
}
public final class CGColorSpace {}
public func CGColorSpaceCreateDeviceRGB() -> CGColorSpace { .init() }
public enum CGImageAlphaInfo: UInt32 { case noneSkipLast = 5 }
public struct CGRect {
    public init(x: Int, y: Int, width: Int, height: Int) {}
    public init() {}
}
public final class CGContext {
    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int, space: CGColorSpace,
        bitmapInfo: UInt32
    ) {}
    public func setFillColor(gray: Double, alpha: Double) {}
    public func fill(_ rect: CGRect) {}
    public func draw(_ image: CGImage, in rect: CGRect) {}
}
