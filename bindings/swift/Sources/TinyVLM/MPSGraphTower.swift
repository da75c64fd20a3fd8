// SPDX-License-Identifier: MIT
#if canImport(MetalPerformanceShadersGraph)
    import Foundation
    import Metal
    import MetalPerformanceShaders
    import MetalPerformanceShadersGraph

    /// The vision tower of a Tiny-VLM or FastVLM file on the GPU, in float32, by MPSGraph. Nothing is converted: weights come
    /// from the model file.
    ///
    /// Not run on a device: its graphs are computed by a stand-in for MPSGraph in the tests (docs/MOBILE.md).
    public final class MPSGraphTower: VisionTower, @unchecked Sendable { // by its lock
        public let name = "Metal"
        private let lock = NSLock()
        private let queue: any MTLCommandQueue
        private let graph: MPSGraph
        private let pixels, tokens: MPSGraphTensor

        public init(modelPath: String) throws {
            guard let device = MTLCreateSystemDefaultDevice(), let queue = device.makeCommandQueue() else {
                throw TinyVLMError(kind: .unsupported, description: "this machine has no Metal device")
            }
            self.queue = queue
            try checkModel(modelPath) // what MPSGraph cannot multiply ends the app
            let layers = Layers(file: try GGUFFile(path: modelPath))
            graph = layers.graph
            (pixels, tokens) = try layers.tower()
        }

        public func run(_ input: [Float], imageSize: Int) throws -> [Float] {
            let shape = pixels.shape!
            guard input.count == layout(shape), shape[1].intValue == imageSize else {
                throw TinyVLMError(kind: .argument, description: "\(input.count) values for the tower's \(layout(shape))")
            }
            lock.lock()
            defer { lock.unlock() }
            let bytes = input.withUnsafeBytes { Data($0) }
            let feed = MPSGraphTensorData(device: MPSGraphDevice(mtlDevice: queue.device), data: bytes, shape: shape, dataType: .float32)
            let results = graph.run(with: queue, feeds: [pixels: feed], targetTensors: [tokens], targetOperations: nil)
            var out = [Float](repeating: 0, count: layout(tokens.shape!))
            results[tokens]!.mpsndarray().readBytes(&out, strideBytes: nil)
            return out
        }

        private func layout(_ shape: [NSNumber]) -> Int { shape.reduce(1) { $0 * $1.intValue } }
    }

    /// The layers that both towers are made of. Maps are NCHW, like PyTorch's (tools/coreml/towers.py, src/vision).
    private struct Layers {
        let graph = MPSGraph()
        let file: GGUFFile

        /// Pixels [1][S][S][3] -> vision tokens [1][n][width].
        func tower() throws -> (MPSGraphTensor, MPSGraphTensor) {
            let side = NSNumber(value: try file.integer("vision.image_size", in: 1...4096))
            let pixels = graph.placeholder(shape: [1, side, side, 3], dataType: .float32, name: "pixels")
            let x = swap(swap(pixels, 2, 3), 1, 2)
            switch file.texts["vision.tower"] {
            case "efficientnet_lite": return (pixels, try efficientNet(x))
            case "fastvit": return (pixels, try fastViT(x))
            case let other: throw TinyVLMError(kind: .unsupported, description: "a tower '\(other ?? "")' on Metal")
            }
        }

        // Operations:

        func constant(_ values: [Float], _ shape: [Int]) -> MPSGraphTensor {
            graph.constant(values.withUnsafeBytes { Data($0) }, shape: shape.map { NSNumber(value: $0) }, dataType: .float32)
        }
        func vector(_ name: String, _ shape: [Int]) throws -> MPSGraphTensor {
            let values = try file.values(name).values
            guard values.count == shape.reduce(1, *) else { throw damaged("tensor '\(name)': \(values.count) values for \(shape)") }
            return constant(values, shape)
        }
        func damaged(_ text: String) -> TinyVLMError { TinyVLMError(kind: .format, description: text) }
        func size(_ x: MPSGraphTensor, _ axis: Int) -> Int { x.shape![axis].intValue }
        func add(_ a: MPSGraphTensor, _ b: MPSGraphTensor) -> MPSGraphTensor { graph.addition(a, b, name: nil) }
        func multiply(_ a: MPSGraphTensor, _ b: MPSGraphTensor) -> MPSGraphTensor { graph.multiplication(a, b, name: nil) }
        func swap(_ x: MPSGraphTensor, _ a: Int, _ b: Int) -> MPSGraphTensor {
            graph.transposeTensor(x, dimension: a, withDimension: b, name: nil)
        }
        func reshape(_ x: MPSGraphTensor, _ shape: [Int]) -> MPSGraphTensor {
            graph.reshape(x, shape: shape.map { NSNumber(value: $0) }, name: nil)
        }
        func relu6(_ x: MPSGraphTensor) -> MPSGraphTensor {
            graph.minimum(graph.reLU(with: x, name: nil), graph.constant(6, dataType: .float32), name: nil)
        }
        func gelu(_ x: MPSGraphTensor) -> MPSGraphTensor {
            let erf = graph.erf(with: multiply(x, graph.constant(0.5.squareRoot(), dataType: .float32)), name: nil)
            let half = graph.constant(0.5, dataType: .float32)
            return multiply(x, add(multiply(erf, half), half))
        }
        func norm(_ x: MPSGraphTensor, axis: NSNumber, gamma: MPSGraphTensor?, beta: MPSGraphTensor?, eps: Double) -> MPSGraphTensor {
            let mean = graph.mean(of: x, axes: [axis], name: nil), variance = graph.variance(of: x, axes: [axis], name: nil)
            return graph.normalize(x, mean: mean, variance: variance, gamma: gamma, beta: beta, epsilon: Float(eps), name: nil)
        }
        /// [1][c][h][w] -> [1][h w][c]
        func tokens(_ x: MPSGraphTensor) -> MPSGraphTensor { swap(reshape(x, [1, size(x, 1), size(x, 2) * size(x, 3)]), 1, 2) }

        /// `same`: TensorFlow's padding, the odd pixel behind; else half a kernel on each side. Kernels are stored as
        /// [n][c][k][k], depthwise ones as [n][k][k], matrices as [n][c].
        func conv(_ name: String, _ x: MPSGraphTensor, stride: Int = 1, same: Bool = false) throws -> MPSGraphTensor {
            var (values, shape) = try file.values(name + ".weight")
            if shape.count == 3 { shape.insert(1, at: 1) }
            while shape.count < 4 { shape.append(1) }
            let k = shape[3], h = size(x, 2), total = max(((h + stride - 1) / stride - 1) * stride + k - h, 0)
            let before = same ? total / 2 : k / 2, after = same ? total - total / 2 : k / 2
            guard shape[2] == k, size(x, 1) % shape[1] == 0, shape[0] % (size(x, 1) / shape[1]) == 0, h + before + after >= k,
                let descriptor = MPSGraphConvolution2DOpDescriptor(
                    strideInX: stride, strideInY: stride, dilationRateInX: 1, dilationRateInY: 1, groups: size(x, 1) / shape[1],
                    paddingLeft: before, paddingRight: after, paddingTop: before, paddingBottom: after, paddingStyle: .explicit,
                    dataLayout: .NCHW, weightsLayout: .OIHW)
            else { throw damaged("tensor '\(name).weight': a kernel \(shape) for \(size(x, 1)) channels") }
            let y = graph.convolution2D(x, weights: constant(values, shape), descriptor: descriptor, name: name)
            return add(y, try vector(name + ".bias", [1, shape[0], 1, 1]))
        }

        // Tiny-VLM: EfficientNet-Lite0 and the first half of the attention pooling.

        func efficientNet(_ pixels: MPSGraphTensor) throws -> MPSGraphTensor {
            let strides = try file.integers("vision.efficientnet.strides", in: 1...2)
            let tap = try file.integers("vision.efficientnet.taps", in: 0...255)
            let stem = try file.integer("vision.efficientnet.stem_stride", in: 1...4, default: 2)
            var x = relu6(try conv("v.stem", pixels, stride: stem, same: true)), low = x
            for (i, stride) in strides.enumerated() {
                x = try invertedBottleneck("v.blk.\(i)", x, stride)
                if tap.contains(i) { low = x }
            }
            let high = relu6(try conv("v.head", x))
            let both = [try conv("mm.pool.hi", high), try conv("mm.pool.lo", low)].map(tokens)
            let t = graph.concatTensors(both, dimension: 1, name: nil), width = size(t, 2)
            return norm(
                add(t, try vector("mm.pool.pos", [1, size(t, 1), width])), axis: 2, gamma: try vector("mm.pool.norm.weight", [1, 1, width]),
                beta: try vector("mm.pool.norm.bias", [1, 1, width]), eps: file.numbers["tinyvlm.pool.layer_norm_epsilon"]?.first ?? 1e-5)
        }

        func invertedBottleneck(_ name: String, _ x: MPSGraphTensor, _ stride: Int) throws -> MPSGraphTensor {
            let expands = file.tensors[name + ".expand.weight"] != nil
            let wide = expands ? relu6(try conv(name + ".expand", x)) : x
            let y = try conv(name + ".project", relu6(try conv(name + ".dw", wide, stride: stride, same: true)))
            return stride == 1 && size(x, 1) == size(y, 1) ? add(x, y) : y
        }

        // FastVLM: FastViTHD.

        func fastViT(_ pixels: MPSGraphTensor) throws -> MPSGraphTensor {
            var x = pixels
            for (i, stride) in [2, 2, 1].enumerated() { x = gelu(try conv("v.stem.\(i)", x, stride: stride)) }
            for (s, depth) in try file.integers("vision.fastvit.depths", in: 1...256).enumerated() {
                x = try stage("v.stage.\(s)", depth, x)
            }
            x = try conv("v.exp.dw", x)
            let squeezed = try conv("v.exp.se_reduce", graph.mean(of: x, axes: [2, 3], name: nil))
            let gate = graph.sigmoid(with: try conv("v.exp.se_expand", graph.reLU(with: squeezed, name: nil)), name: nil)
            return tokens(gelu(multiply(x, gate)))
        }

        func stage(_ name: String, _ depth: Int, _ input: MPSGraphTensor) throws -> MPSGraphTensor {
            var x = input
            if file.tensors[name + ".down.dw.weight"] != nil {
                x = gelu(try conv(name + ".down.pw", gelu(try conv(name + ".down.dw", x, stride: 2))))
            }
            if file.tensors[name + ".pos.weight"] != nil { x = try conv(name + ".pos", x) }
            for i in 0..<depth {
                let block = "\(name).blk.\(i)", attends = file.tensors[block + ".attn_qkv.weight"] != nil
                x = attends ? try attention(block, x) : try conv(block + ".mixer", x)
                let hidden = gelu(try conv(block + ".ffn_up", try conv(block + ".ffn_dw", x)))
                x = add(x, try conv(block + ".ffn_down", hidden))
            }
            return x
        }

        /// The norm's affine part and 1 / sqrt(head size) are in the weights.
        func attention(_ name: String, _ x: MPSGraphTensor) throws -> MPSGraphTensor {
            let eps = file.numbers["vision.fastvit.layer_norm_epsilon"]?.first ?? 1e-5
            let d = try file.integer("vision.fastvit.head_dim", in: 1...1024, default: 32)
            let c = size(x, 1), n = size(x, 2) * size(x, 3)
            guard c % d == 0 else { throw damaged("key 'vision.fastvit.head_dim': \(c) features are not whole heads of \(d)") }
            let qkv = try conv(name + ".attn_qkv", norm(x, axis: 1, gamma: nil, beta: nil, eps: eps))
            let heads = reshape(qkv, [3, c / d, d, n])
            let parts = (0..<3).map { graph.sliceTensor(heads, dimension: 0, start: $0, length: 1, name: nil) }  // [1][heads][d][n]
            let scores = graph.matrixMultiplication(primary: swap(parts[0], 2, 3), secondary: parts[1], name: nil)
            let weights = graph.softMax(with: scores, axis: 3, name: nil)
            let mixed = graph.matrixMultiplication(primary: parts[2], secondary: swap(weights, 2, 3), name: nil)
            return add(x, try conv(name + ".attn_output", reshape(mixed, [1, c, size(x, 2), size(x, 3)])))
        }
    }
#endif
