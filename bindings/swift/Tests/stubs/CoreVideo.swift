// SPDX-License-Identifier: MIT
// Buffers hold what the test puts into them.
public final class CVBuffer {
    public struct Plane {
        let bytesPerRow: Int
        let memory: UnsafeMutablePointer<UInt8>?

        /// No bytes: a plane without memory.
        public init(bytesPerRow: Int, bytes: [UInt8]) {
            self.bytesPerRow = bytesPerRow
            memory = bytes.isEmpty ? nil : .allocate(capacity: bytes.count)
            memory?.initialize(from: bytes, count: bytes.count)
        }
    }
    let format: UInt32, width, height: Int, planes: [Plane], matrix: CFString?
    public private(set) var locks = 0

    public init(format: UInt32, width: Int, height: Int, planes: [Plane], matrix: CFString? = nil) {
        (self.format, self.width, self.height, self.planes, self.matrix) = (format, width, height, planes, matrix)
    }
    deinit { planes.forEach { $0.memory?.deallocate() } }
    func lock(_ n: Int) { locks += n }
}
public typealias CVPixelBuffer = CVBuffer
public typealias CVReturn = Int32
public typealias CFTypeRef = AnyObject
public final class CFString: Sendable {}
public func CFEqual(_ a: CFTypeRef!, _ b: CFTypeRef!) -> Bool { a! === b! }
public let kCVReturnSuccess: CVReturn = 0
public let kCVPixelFormatType_32BGRA: UInt32 = 0x4247_5241
public let kCVPixelFormatType_420YpCbCr8BiPlanarFullRange: UInt32 = 0x3432_3066
public let kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange: UInt32 = 0x3432_3076
public let kCVPixelBufferPixelFormatTypeKey = "PixelFormatType"
public let kCVImageBufferYCbCrMatrixKey = CFString()
public let kCVImageBufferYCbCrMatrix_ITU_R_601_4 = CFString()
public let kCVImageBufferYCbCrMatrix_ITU_R_709_2 = CFString()
public enum CVAttachmentMode: UInt32, Sendable { case shouldNotPropagate, shouldPropagate }
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
public func CVBufferCopyAttachment(_ buffer: CVBuffer, _ key: CFString, _ mode: UnsafeMutablePointer<CVAttachmentMode>?) -> CFTypeRef? {
    key === kCVImageBufferYCbCrMatrixKey ? buffer.matrix : nil
}
public func CVPixelBufferGetWidth(_ buffer: CVPixelBuffer) -> Int { buffer.width }
public func CVPixelBufferGetHeight(_ buffer: CVPixelBuffer) -> Int { buffer.height }
public func CVPixelBufferGetBytesPerRowOfPlane(_ buffer: CVPixelBuffer, _ plane: Int) -> Int { buffer.planes[plane].bytesPerRow }
public func CVPixelBufferGetBaseAddressOfPlane(_ buffer: CVPixelBuffer, _ plane: Int) -> UnsafeMutableRawPointer? {
    UnsafeMutableRawPointer(buffer.planes[plane].memory)
}
/// Of a buffer with several planes the base address is that of their descriptor.
public func CVPixelBufferGetBytesPerRow(_ buffer: CVPixelBuffer) -> Int { buffer.planes.count == 1 ? buffer.planes[0].bytesPerRow : 0 }
public func CVPixelBufferGetBaseAddress(_ buffer: CVPixelBuffer) -> UnsafeMutableRawPointer? {
    buffer.planes.count == 1 ? UnsafeMutableRawPointer(buffer.planes[0].memory) : nil
}
