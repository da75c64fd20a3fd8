// SPDX-License-Identifier: MIT
// Buffers hold what the test puts into them.
public final class CVBuffer {
    let format: UInt32, width, height, bytesPerRow: Int
    let memory: UnsafeMutablePointer<UInt8>?
    public private(set) var locks = 0

    /// No bytes: a buffer without memory.
    public init(format: UInt32, width: Int, height: Int, bytesPerRow: Int, bytes: [UInt8]) {
        (self.format, self.width, self.height, self.bytesPerRow) = (format, width, height, bytesPerRow)
        memory = bytes.isEmpty ? nil : .allocate(capacity: bytes.count)
        memory?.initialize(from: bytes, count: bytes.count)
    }
    deinit { memory?.deallocate() }
    func lock(_ n: Int) { locks += n }
}
public typealias CVPixelBuffer = CVBuffer
public typealias CVReturn = Int32
public let kCVReturnSuccess: CVReturn = 0
public let kCVPixelFormatType_32BGRA: UInt32 = 0x4247_5241
public let kCVPixelBufferPixelFormatTypeKey = "PixelFormatType"
public struct CVPixelBufferLockFlags: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let readOnly = CVPixelBufferLockFlags(rawValue: 1)
}
public func CVPixelBufferGetPixelFormatType(_ buffer: CVPixelBuffer) -> UInt32 { buffer.format }
public func CVPixelBufferLockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> CVReturn {
    buffer.lock(1)
    return kCVReturnSuccess
}
@discardableResult
public func CVPixelBufferUnlockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> CVReturn {
    buffer.lock(-1)
    return kCVReturnSuccess
}
public func CVPixelBufferGetWidth(_ buffer: CVPixelBuffer) -> Int { buffer.width }
public func CVPixelBufferGetHeight(_ buffer: CVPixelBuffer) -> Int { buffer.height }
public func CVPixelBufferGetBytesPerRow(_ buffer: CVPixelBuffer) -> Int { buffer.bytesPerRow }
public func CVPixelBufferGetBaseAddress(_ buffer: CVPixelBuffer) -> UnsafeMutableRawPointer? { UnsafeMutableRawPointer(buffer.memory) }
