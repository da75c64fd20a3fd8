// SPDX-License-Identifier: MIT
public enum MPSDataType: UInt32, Sendable { case float32 }
public final class MPSNDArray {
    private let values: [Float]
    public init(_ values: [Float]) { self.values = values }
    public func readBytes(_ buffer: UnsafeMutableRawPointer, strideBytes: UnsafeMutablePointer<Int>?) {
        values.withUnsafeBytes { buffer.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }
}
