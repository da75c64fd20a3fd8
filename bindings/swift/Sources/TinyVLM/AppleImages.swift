// SPDX-License-Identifier: MIT
#if canImport(CoreGraphics)
    import CoreGraphics

    extension CGImage: ImageSource {
        public func rgbImage() throws -> RGBImage { try RGBImage(self) }
    }

    extension RGBImage {
        /// Any CGImage, blended on white. Its orientation is that of the pixels: UIImage's must be applied before.
        public init(_ image: CGImage) throws {
            let width = image.width, height = image.height, row = width * 4
            var bytes = [UInt8](repeating: 255, count: row * height)
            let drawn = bytes.withUnsafeMutableBytes { buffer -> Bool in
                guard
                    let context = CGContext(
                        data: buffer.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: row,
                        space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
                else { return false }
                let all = CGRect(x: 0, y: 0, width: width, height: height)
                context.setFillColor(gray: 1, alpha: 1)
                context.fill(all)
                context.draw(image, in: all)
                return true
            }
            guard drawn else { throw TinyVLMError(kind: .memory, description: "no bitmap of \(width)x\(height)") }
            try self.init(width: width, height: height, channels: 4, bytes: bytes)
        }
    }
#endif

#if canImport(CoreVideo)
    import CoreVideo

    extension CVPixelBuffer: ImageSource {
        public func rgbImage() throws -> RGBImage { try RGBImage(self) }
    }

    extension RGBImage {
        /// A camera frame: `kCVPixelFormatType_32BGRA`, or the camera's and ARKit's own
        /// `kCVPixelFormatType_420YpCbCr8BiPlanarFullRange` and `...VideoRange`, by BT.709 if the buffer says so, else BT.601.
        public init(_ buffer: CVPixelBuffer) throws {
            guard CVPixelBufferLockBaseAddress(buffer, .readOnly) == kCVReturnSuccess else {
                throw TinyVLMError(kind: .io, description: "the pixel buffer cannot be locked")
            }
            defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
            let bytes: [UInt8]
            switch CVPixelBufferGetPixelFormatType(buffer) {
            case kCVPixelFormatType_32BGRA: bytes = try buffer.fromBGRA()
            case kCVPixelFormatType_420YpCbCr8BiPlanarFullRange: bytes = try buffer.fromYCbCr(isFullRange: true)
            case kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange: bytes = try buffer.fromYCbCr(isFullRange: false)
            case let other:
                throw TinyVLMError(
                    kind: .unsupported, description: "a pixel buffer of format \(other): neither 32BGRA nor 420YpCbCr8BiPlanar")
            }
            try self.init(width: CVPixelBufferGetWidth(buffer), height: CVPixelBufferGetHeight(buffer), bytes: bytes)
        }
    }

    /// To be called while the buffer is locked; the results are RGB, rows side by side.
    extension CVPixelBuffer {
        fileprivate func fromBGRA() throws -> [UInt8] {
            let bgra = try bytes(CVPixelBufferGetBaseAddress(self)), stride = CVPixelBufferGetBytesPerRow(self)
            return rgb { x, y in
                let pixel = bgra + y * stride + x * 4
                return (pixel[2], pixel[1], pixel[0])
            }
        }

        fileprivate func fromYCbCr(isFullRange: Bool) throws -> [UInt8] {
            let luma = try bytes(CVPixelBufferGetBaseAddressOfPlane(self, 0)), chroma = try bytes(CVPixelBufferGetBaseAddressOfPlane(self, 1))
            let lumaStride = CVPixelBufferGetBytesPerRowOfPlane(self, 0), chromaStride = CVPixelBufferGetBytesPerRowOfPlane(self, 1)
            let colors = YCbCr(isFullRange: isFullRange, isBT709: isBT709)
            return rgb { x, y in
                let pair = chroma + y / 2 * chromaStride + x / 2 * 2
                return colors.rgb(luma[y * lumaStride + x], pair[0], pair[1])
            }
        }

        private var isBT709: Bool {
            guard let matrix = CVBufferCopyAttachment(self, kCVImageBufferYCbCrMatrixKey, nil) else { return false }
            return CFEqual(matrix, kCVImageBufferYCbCrMatrix_ITU_R_709_2)
        }

        private func bytes(_ base: UnsafeMutableRawPointer?) throws -> UnsafePointer<UInt8> {
            guard let base else { throw TinyVLMError(kind: .io, description: "the pixel buffer has no memory") }
            return UnsafePointer(base.assumingMemoryBound(to: UInt8.self))
        }

        private func rgb(_ color: (Int, Int) -> (UInt8, UInt8, UInt8)) -> [UInt8] {
            let width = CVPixelBufferGetWidth(self), height = CVPixelBufferGetHeight(self)
            return [UInt8](unsafeUninitializedCapacity: width * height * 3) { out, count in
                for y in 0..<height {
                    for x in 0..<width {
                        (out[count], out[count + 1], out[count + 2]) = color(x, y)
                        count += 3
                    }
                }
            }
        }
    }

    /// Luma and chroma to RGB, in 16-bit fixed point.
    private struct YCbCr {
        let black, luma, redOfCr, greenOfCb, greenOfCr, blueOfCb: Int

        init(isFullRange: Bool, isBT709: Bool) {
            let (red, blue) = isBT709 ? (0.2126, 0.0722) : (0.299, 0.114), green = 1 - red - blue // their parts of luma
            let chroma = isFullRange ? 65536.0 : 65536 * 255 / 224
            black = isFullRange ? 0 : 16
            luma = Int((isFullRange ? 65536.0 : 65536 * 255 / 219).rounded())
            redOfCr = Int((chroma * 2 * (1 - red)).rounded())
            blueOfCb = Int((chroma * 2 * (1 - blue)).rounded())
            greenOfCr = -Int((chroma * 2 * (1 - red) * red / green).rounded())
            greenOfCb = -Int((chroma * 2 * (1 - blue) * blue / green).rounded())
        }

        func rgb(_ y: UInt8, _ cb: UInt8, _ cr: UInt8) -> (UInt8, UInt8, UInt8) {
            let light = (Int(y) - black) * luma + 32768, b = Int(cb) - 128, r = Int(cr) - 128
            func byte(_ fixed: Int) -> UInt8 { UInt8(min(max(fixed >> 16, 0), 255)) }
            return (byte(light + redOfCr * r), byte(light + greenOfCb * b + greenOfCr * r), byte(light + blueOfCb * b))
        }
    }
#endif
