// SPDX-License-Identifier: MIT
// SHA-256 (FIPS 180-4), as far as TinyVLM uses it.
import Foundation

public struct SHA256 {
    public struct Digest: Sequence {
        let bytes: [UInt8]
        public func makeIterator() -> IndexingIterator<[UInt8]> { bytes.makeIterator() }
    }
    private var state: [UInt32] = primes.prefix(8).map { fraction(Double($0).squareRoot()) }
    private var rest: [UInt8] = [], size: UInt64 = 0
    private var words = [UInt32](repeating: 0, count: 64)

    public init() {}

    public mutating func update(data: Data) {
        size += UInt64(data.count)
        data.withUnsafeBytes { take($0) }
    }

    public func finalize() -> Digest {
        var end = self, padding: [UInt8] = [0x80]
        padding += [UInt8](repeating: 0, count: (119 - rest.count) % 64)
        padding += bigEndian(size * 8)
        padding.withUnsafeBytes { end.take($0) }
        return Digest(bytes: end.state.flatMap(bigEndian))
    }

    private mutating func take(_ bytes: UnsafeRawBufferPointer) {
        var at = 0
        while at < bytes.count {
            let n = min(64 - rest.count, bytes.count - at)
            rest += bytes[at..<at + n]
            at += n
            if rest.count == 64 {
                mix()
                rest.removeAll(keepingCapacity: true)
            }
        }
    }

    private mutating func mix() {
        for i in 0..<16 {
            words[i] = 0
            for byte in rest[4 * i..<4 * i + 4] { words[i] = words[i] << 8 | UInt32(byte) }
        }
        for i in 16..<64 {
            let a = words[i - 15], b = words[i - 2]
            let first = turn(a, 7) ^ turn(a, 18) ^ (a >> 3), second = turn(b, 17) ^ turn(b, 19) ^ (b >> 10)
            words[i] = words[i - 16] &+ first &+ words[i - 7] &+ second
        }
        var (a, b, c, d) = (state[0], state[1], state[2], state[3]), (e, f, g, h) = (state[4], state[5], state[6], state[7])
        for i in 0..<64 {
            let choice = (e & f) ^ (~e & g), majority = (a & b) ^ (a & c) ^ (b & c)
            let x = h &+ (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) &+ choice &+ constants[i] &+ words[i]
            let y = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) &+ majority
            (h, g, f, e, d, c, b, a) = (g, f, e, d &+ x, c, b, a, x &+ y)
        }
        for (i, word) in [a, b, c, d, e, f, g, h].enumerated() { state[i] = state[i] &+ word }
    }
}

private func bigEndian<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { [UInt8]($0) } }
private func turn(_ word: UInt32, _ n: UInt32) -> UInt32 { word >> n | word << (32 - n) }
private func fraction(_ x: Double) -> UInt32 { UInt32((x - x.rounded(.down)) * 0x1p32) }
private let primes = (2...311).filter { n in !(2..<n).contains { n % $0 == 0 } }
private let constants = primes.map { fraction(cbrt(Double($0))) }
