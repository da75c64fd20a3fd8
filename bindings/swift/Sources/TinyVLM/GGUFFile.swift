// SPDX-License-Identifier: MIT
import Foundation

/// Numbers, texts and tensors of a model file, for towers that bring their own arithmetic (docs/FORMAT.md).
struct GGUFFile {
    struct Tensor {
        let type: UInt32, offset: Int
        let shape: [Int]  // outermost first
    }

    private(set) var numbers: [String: [Double]] = [:]
    private(set) var texts: [String: String] = [:]
    private(set) var tensors: [String: Tensor] = [:]
    private let data: Data
    private var at = 0

    init(path: String) throws {
        do { data = try Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped) } catch {
            throw TinyVLMError(kind: .io, description: "'\(path)' cannot be read")
        }
        guard try read(UInt32.self) == 0x4655_4747, try (2...3).contains(read(UInt32.self)) else {
            throw GGUFFile.damaged("not a GGUF file of version 2 or 3")
        }
        let tensorCount = try read(UInt64.self), keyCount = try read(UInt64.self)
        for _ in 0..<keyCount { try readKey() }
        var found: [(String, UInt32, UInt64, [Int])] = []
        for _ in 0..<tensorCount { found.append(try readTensor()) }
        let alignment = UInt64(try integer("general.alignment", in: 1...65536, default: 32))
        let begin = (UInt64(at) + alignment - 1) / alignment * alignment
        for (name, type, offset, shape) in found {
            guard offset <= UInt64(data.count), begin + offset <= UInt64(data.count) else {
                throw GGUFFile.damaged("tensor '\(name)' lies outside the file")
            }
            tensors[name] = Tensor(type: type, offset: Int(begin + offset), shape: shape)
        }
    }

    private static func damaged(_ text: String) -> TinyVLMError { TinyVLMError(kind: .format, description: text) }

    // Reading in order:

    private mutating func read<T: FixedWidthInteger>(_: T.Type) throws -> T {
        defer { at += MemoryLayout<T>.size }
        return try load(T.self, at)
    }

    private func load<T: FixedWidthInteger>(_: T.Type, _ at: Int) throws -> T {
        guard at <= data.count - MemoryLayout<T>.size else { throw GGUFFile.damaged("the file ends early") }
        return data.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: at, as: T.self)) }
    }

    private mutating func readText() throws -> String {
        let length = try read(UInt64.self)
        guard length <= UInt64(data.count - at) else { throw GGUFFile.damaged("a text is longer than the file") }
        defer { at += Int(length) }
        return String(decoding: data[at..<at + Int(length)], as: UTF8.self)
    }

    private mutating func readNumber(_ type: UInt32) throws -> Double {
        switch type {
        case 0, 7: return Double(try read(UInt8.self))
        case 1: return Double(try read(Int8.self))
        case 2: return Double(try read(UInt16.self))
        case 3: return Double(try read(Int16.self))
        case 4: return Double(try read(UInt32.self))
        case 5: return Double(try read(Int32.self))
        case 6: return Double(Float(bitPattern: try read(UInt32.self)))
        case 10: return Double(try read(UInt64.self))
        case 11: return Double(try read(Int64.self))
        case 12: return Double(bitPattern: try read(UInt64.self))
        default: throw GGUFFile.damaged("a value of type \(type)")
        }
    }

    private mutating func readKey() throws {
        let text: UInt32 = 8, array: UInt32 = 9
        let name = try readText(), type = try read(UInt32.self)
        guard type == array else {
            if type == text { texts[name] = try readText() } else { numbers[name] = [try readNumber(type)] }
            return
        }
        let element = try read(UInt32.self), count = try read(UInt64.self)
        var values: [Double] = []
        for _ in 0..<count {  // ends with the file, whatever it says of its length
            if element == text { _ = try readText() } else { values.append(try readNumber(element)) }
        }
        numbers[name] = values
    }

    private mutating func readTensor() throws -> (String, UInt32, UInt64, [Int]) {
        let name = try readText(), rank = try read(UInt32.self)
        guard rank <= 4 else { throw GGUFFile.damaged("tensor '\(name)' has \(rank) dimensions") }
        var shape: [Int] = []
        for _ in 0..<rank { shape.insert(Int(clamping: try read(UInt64.self)), at: 0) }
        return (name, try read(UInt32.self), try read(UInt64.self), shape)
    }

    // Values:

    func integers(_ key: String, in range: ClosedRange<Int>) throws -> [Int] {
        guard let values = numbers[key] else { throw GGUFFile.damaged("key '\(key)' is missing") }
        return try values.map {
            guard let value = Int(exactly: $0), range.contains(value) else { throw GGUFFile.damaged("key '\(key)': \($0)") }
            return value
        }
    }

    func integer(_ key: String, in range: ClosedRange<Int>, default: Int? = nil) throws -> Int {
        if numbers[key] == nil, let value = `default` { return value }
        let values = try integers(key, in: range)
        guard values.count == 1 else { throw GGUFFile.damaged("key '\(key)': \(values.count) values") }
        return values[0]
    }

    /// In float32. Rows of an int8 tower are multiplied by their scales.
    func values(_ name: String) throws -> (values: [Float], shape: [Int]) {
        guard let t = tensors[name] else { throw GGUFFile.damaged("tensor '\(name)' is missing") }
        let (count, over) = t.shape.reduce((1, false)) { n, d in
            let (product, over) = n.0.multipliedReportingOverflow(by: d)
            return (product, n.1 || over)
        }
        guard !over, count > 0, count <= data.count else { throw GGUFFile.damaged("tensor '\(name)' is not of the file's size") }
        func each(_ value: (Int) throws -> Float) rethrows -> [Float] { try (0..<count).map(value) }
        switch t.type {
        case 0: return (try each { Float(bitPattern: try load(UInt32.self, t.offset + 4 * $0)) }, t.shape)
        case 1: return (try each { half(try load(UInt16.self, t.offset + 2 * $0)) }, t.shape)
        case 30: return (try each { Float(bitPattern: UInt32(try load(UInt16.self, t.offset + 2 * $0)) << 16) }, t.shape)
        case 8:  // Q8_0: a float16 scale, 32 bytes
            return (
                try each {
                    let block = t.offset + $0 / 32 * 34
                    return half(try load(UInt16.self, block)) * Float(try load(Int8.self, block + 2 + $0 % 32))
                }, t.shape
            )
        case 24:
            let scale = try values(String(name.dropLast("weight".count)) + "scale").values
            guard scale.count == t.shape.first else { throw GGUFFile.damaged("tensor '\(name)' has \(scale.count) scales") }
            return (try each { Float(try load(Int8.self, t.offset + $0)) * scale[$0 / (count / scale.count)] }, t.shape)
        default: throw TinyVLMError(kind: .unsupported, description: "tensor '\(name)' is of type \(t.type): not F32, F16, BF16, Q8_0 or I8")
        }
    }
}

/// (Swift's Float16 is missing on Intel Macs.)
func half(_ bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16, exponent = UInt32(bits >> 10 & 31), fraction = UInt32(bits & 1023)
    let size: Float
    switch exponent {
    case 0: size = Float(fraction) * 0x1p-24
    case 31: size = fraction == 0 ? .infinity : .nan
    default: size = Float(bitPattern: (exponent + 112) << 23 | fraction << 13)
    }
    return Float(bitPattern: size.bitPattern | sign)
}
