// SPDX-License-Identifier: MIT
// A stand-in for MPSGraph that computes: each operation as Apple's documentation has it, in float32, on one core.
import Foundation
import Metal
import MetalPerformanceShaders

public typealias MPSGraphValues = [ObjectIdentifier: [Float]]

public final class MPSGraphTensor: Hashable {
    public let shape: [NSNumber]?
    let sizes: [Int]
    private let compute: (inout MPSGraphValues) -> [Float]

    init(_ sizes: [Int], _ compute: @escaping (inout MPSGraphValues) -> [Float]) {
        self.sizes = sizes
        shape = sizes.map { NSNumber(value: $0) }
        self.compute = compute
    }
    public static func == (a: MPSGraphTensor, b: MPSGraphTensor) -> Bool { a === b }
    public func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }

    var count: Int { sizes.reduce(1, *) }
    func values(_ known: inout MPSGraphValues) -> [Float] {
        if let found = known[ObjectIdentifier(self)] { return found }
        let made = compute(&known)
        precondition(made.count == count, "\(made.count) values for \(sizes)")
        known[ObjectIdentifier(self)] = made
        return made
    }
}

public enum MPSGraphPaddingStyle: UInt, Sendable { case explicit, TF_VALID, TF_SAME }
public enum MPSGraphTensorNamedDataLayout: UInt, Sendable { case NCHW, NHWC, OIHW, HWIO }
public final class MPSGraphConvolution2DOpDescriptor {
    let stride, groups, left, right, top, bottom: Int
    public init?(
        strideInX: Int, strideInY: Int, dilationRateInX: Int, dilationRateInY: Int, groups: Int, paddingLeft: Int, paddingRight: Int,
        paddingTop: Int, paddingBottom: Int, paddingStyle: MPSGraphPaddingStyle, dataLayout: MPSGraphTensorNamedDataLayout,
        weightsLayout: MPSGraphTensorNamedDataLayout
    ) {
        guard strideInX == strideInY, dilationRateInX == 1, dilationRateInY == 1, paddingStyle == .explicit, dataLayout == .NCHW,
            weightsLayout == .OIHW
        else { return nil }
        stride = strideInX
        self.groups = groups
        (left, right, top, bottom) = (paddingLeft, paddingRight, paddingTop, paddingBottom)
    }
}
public final class MPSGraphDevice { public init(mtlDevice: any MTLDevice) {} }
public final class MPSGraphOperation {}
public final class MPSGraphTensorData {
    let values: [Float]
    public init(device: MPSGraphDevice, data: Data, shape: [NSNumber], dataType: MPSDataType) {
        values = data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }
    init(_ values: [Float]) { self.values = values }
    public func mpsndarray() -> MPSNDArray { MPSNDArray(values) }
}

public final class MPSGraph {
    public init() {}

    public func run(
        with commandQueue: any MTLCommandQueue, feeds: [MPSGraphTensor: MPSGraphTensorData], targetTensors: [MPSGraphTensor],
        targetOperations: [MPSGraphOperation]?
    ) -> [MPSGraphTensor: MPSGraphTensorData] {
        var known: MPSGraphValues = [:], results: [MPSGraphTensor: MPSGraphTensorData] = [:]
        for (tensor, data) in feeds { known[ObjectIdentifier(tensor)] = data.values }
        for tensor in targetTensors { results[tensor] = MPSGraphTensorData(tensor.values(&known)) }
        return results
    }

    public func placeholder(shape: [NSNumber]?, dataType: MPSDataType, name: String?) -> MPSGraphTensor {
        MPSGraphTensor(shape!.map { $0.intValue }) { _ in preconditionFailure("no feed for \(name ?? "")") }
    }
    public func constant(_ data: Data, shape: [NSNumber], dataType: MPSDataType) -> MPSGraphTensor {
        MPSGraphTensor(shape.map { $0.intValue }) { _ in data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) } }
    }
    public func constant(_ scalar: Double, dataType: MPSDataType) -> MPSGraphTensor { MPSGraphTensor([1]) { _ in [Float(scalar)] } }

    private func map(_ x: MPSGraphTensor, _ f: @escaping (Float) -> Float) -> MPSGraphTensor {
        MPSGraphTensor(x.sizes) { known in x.values(&known).map(f) }
    }
    public func reLU(with x: MPSGraphTensor, name: String?) -> MPSGraphTensor { map(x) { max($0, 0) } }
    public func sigmoid(with x: MPSGraphTensor, name: String?) -> MPSGraphTensor { map(x) { 1 / (1 + Foundation.exp(-$0)) } }
    public func erf(with x: MPSGraphTensor, name: String?) -> MPSGraphTensor { map(x) { Foundation.erf($0) } }

    private func pairs(_ a: MPSGraphTensor, _ b: MPSGraphTensor, _ f: @escaping (Float, Float) -> Float) -> MPSGraphTensor {
        let rank = max(a.sizes.count, b.sizes.count)
        func padded(_ t: MPSGraphTensor) -> [Int] { Array(repeating: 1, count: rank - t.sizes.count) + t.sizes }
        let left = padded(a), right = padded(b), sizes = (0..<rank).map { max(left[$0], right[$0]) }
        precondition((0..<rank).allSatisfy { left[$0] == right[$0] || min(left[$0], right[$0]) == 1 }, "\(left) and \(right)")
        return MPSGraphTensor(sizes) { known in
            let x = a.values(&known), y = b.values(&known)
            return zip(places(sizes, steps(left)), places(sizes, steps(right))).map { f(x[$0], y[$1]) }
        }
    }
    public func addition(_ a: MPSGraphTensor, _ b: MPSGraphTensor, name: String?) -> MPSGraphTensor { pairs(a, b) { $0 + $1 } }
    public func multiplication(_ a: MPSGraphTensor, _ b: MPSGraphTensor, name: String?) -> MPSGraphTensor { pairs(a, b) { $0 * $1 } }
    public func minimum(_ a: MPSGraphTensor, _ b: MPSGraphTensor, name: String?) -> MPSGraphTensor { pairs(a, b) { min($0, $1) } }

    public func reshape(_ x: MPSGraphTensor, shape: [NSNumber], name: String?) -> MPSGraphTensor {
        MPSGraphTensor(shape.map { $0.intValue }) { known in x.values(&known) }
    }
    public func transposeTensor(_ x: MPSGraphTensor, dimension a: Int, withDimension b: Int, name: String?) -> MPSGraphTensor {
        var sizes = x.sizes, strides = steps(sizes)
        sizes.swapAt(a, b)
        strides.swapAt(a, b)
        let from = places(sizes, strides)
        return MPSGraphTensor(sizes) { known in
            let values = x.values(&known)
            return from.map { values[$0] }
        }
    }
    public func sliceTensor(_ x: MPSGraphTensor, dimension: Int, start: Int, length: Int, name: String?) -> MPSGraphTensor {
        precondition(dimension == 0)
        let row = x.count / x.sizes[0]
        return MPSGraphTensor([length] + x.sizes.dropFirst()) { known in
            Array(x.values(&known)[start * row..<(start + length) * row])
        }
    }
    public func concatTensors(_ tensors: [MPSGraphTensor], dimension: Int, name: String?) -> MPSGraphTensor {
        precondition(tensors.allSatisfy { $0.sizes[..<dimension].allSatisfy { $0 == 1 } })
        var sizes = tensors[0].sizes
        sizes[dimension] = tensors.reduce(0) { $0 + $1.sizes[dimension] }
        return MPSGraphTensor(sizes) { known in
            var all: [Float] = []
            for t in tensors { all += t.values(&known) }
            return all
        }
    }

    public func mean(of x: MPSGraphTensor, axes: [NSNumber], name: String?) -> MPSGraphTensor {
        var sizes = x.sizes
        for axis in axes { sizes[axis.intValue] = 1 }
        let to = places(x.sizes, steps(sizes)), count = sizes.reduce(1, *)
        return MPSGraphTensor(sizes) { known in
            var sums = [Double](repeating: 0, count: count)
            for (value, i) in zip(x.values(&known), to) { sums[i] += Double(value) }
            return sums.map { Float($0 / Double(x.count / count)) }
        }
    }
    public func variance(of x: MPSGraphTensor, axes: [NSNumber], name: String?) -> MPSGraphTensor {
        let deviation = pairs(x, mean(of: x, axes: axes, name: nil)) { $0 - $1 }
        return mean(of: map(deviation) { $0 * $0 }, axes: axes, name: nil)
    }
    public func normalize(
        _ x: MPSGraphTensor, mean: MPSGraphTensor, variance: MPSGraphTensor, gamma: MPSGraphTensor?, beta: MPSGraphTensor?,
        epsilon: Float, name: String?
    ) -> MPSGraphTensor {
        var y = pairs(pairs(x, mean) { $0 - $1 }, variance) { $0 / ($1 + epsilon).squareRoot() }
        if let gamma { y = multiplication(y, gamma, name: nil) }
        if let beta { y = addition(y, beta, name: nil) }
        return y
    }

    public func softMax(with x: MPSGraphTensor, axis: Int, name: String?) -> MPSGraphTensor {
        precondition(axis == x.sizes.count - 1)
        let n = x.sizes[axis]
        return MPSGraphTensor(x.sizes) { known in
            var values = x.values(&known)
            for row in Swift.stride(from: 0, to: values.count, by: n) {
                let most = values[row..<row + n].max()!
                for i in row..<row + n { values[i] = Foundation.exp(values[i] - most) }
                let sum = values[row..<row + n].reduce(0, +)
                for i in row..<row + n { values[i] /= sum }
            }
            return values
        }
    }
    public func matrixMultiplication(primary a: MPSGraphTensor, secondary b: MPSGraphTensor, name: String?) -> MPSGraphTensor {
        let rank = a.sizes.count, m = a.sizes[rank - 2], k = a.sizes[rank - 1], n = b.sizes[rank - 1]
        precondition(b.sizes[rank - 2] == k && a.sizes.dropLast(2) == b.sizes.dropLast(2), "\(a.sizes) x \(b.sizes)")
        return MPSGraphTensor(a.sizes.dropLast() + [n]) { known in
            let x = a.values(&known), y = b.values(&known)
            var out = [Float](repeating: 0, count: x.count / k * n)
            for row in 0..<x.count / k {
                for i in 0..<k {
                    let factor = x[row * k + i], from = (row / m * k + i) * n
                    for j in 0..<n { out[row * n + j] += factor * y[from + j] }
                }
            }
            return out
        }
    }

    public func convolution2D(
        _ x: MPSGraphTensor, weights w: MPSGraphTensor, descriptor d: MPSGraphConvolution2DOpDescriptor, name: String?
    ) -> MPSGraphTensor {
        let c = x.sizes[1], h = x.sizes[2], width = x.sizes[3], n = w.sizes[0], depth = w.sizes[1], k = w.sizes[2]
        precondition(depth * d.groups == c && n % d.groups == 0 && w.sizes[3] == k, "\(w.sizes) for \(x.sizes)")
        let outH = (h + d.top + d.bottom - k) / d.stride + 1, outW = (width + d.left + d.right - k) / d.stride + 1
        return MPSGraphTensor([1, n, outH, outW]) { known in
            let pixels = x.values(&known), kernel = w.values(&known)
            var out = [Float](repeating: 0, count: n * outH * outW)
            for (tap, factor) in kernel.enumerated() {  // [o][i][ky][kx]
                let o = tap / (depth * k * k), i = tap / (k * k) % depth, ky = tap / k % k, kx = tap % k
                let plane = (o / (n / d.groups) * depth + i) * h * width
                for y in 0..<outH {
                    let fromY = y * d.stride + ky - d.top
                    if fromY < 0 || fromY >= h { continue }
                    for column in 0..<outW {
                        let fromX = column * d.stride + kx - d.left
                        if fromX < 0 || fromX >= width { continue }
                        out[(o * outH + y) * outW + column] += factor * pixels[plane + fromY * width + fromX]
                    }
                }
            }
            return out
        }
    }
}

/// Elements from one index of each dimension to the next; 0 where there is one index, which then serves all.
private func steps(_ sizes: [Int]) -> [Int] {
    var out: [Int] = [], step = 1
    for size in sizes.reversed() {
        out.insert(size == 1 ? 0 : step, at: 0)
        step *= size
    }
    return out
}

/// For each index of `sizes`, in order, where a tensor of these steps has it.
private func places(_ sizes: [Int], _ steps: [Int]) -> [Int] {
    var out = [0]
    for (size, step) in zip(sizes, steps) {
        out = out.flatMap { start in (0..<size).map { start + $0 * step } }
    }
    return out
}
