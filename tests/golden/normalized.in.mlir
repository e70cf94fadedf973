module attributes {keras.stage = "keras"} {
func.func @main(%x: tensor<2x5x4x32xbf16> {keras.name = "x"}, %v: tensor<1x1x32x32xbf16> {keras.name = "v"},
                %w: tensor<3x3x32x24xbf16> {keras.name = "w"}, %g: tensor<2x5x4x24xbf16> {keras.name = "g"})
    -> (tensor<2x5x4x24xbf16>, tensor<3x3x32x24xbf16>, tensor<32xf32>) {
  %y = "keras.conv2d"(%x, %v) {pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, groups = 1 : i64} : (tensor<2x5x4x32xbf16>, tensor<1x1x32x32xbf16>) -> tensor<2x5x4x32xbf16>
  %a = "keras.cast"(%y) {dtype = "f32"} : (tensor<2x5x4x32xbf16>) -> tensor<2x5x4x32xf32>
  %s = "keras.sum"(%a) {axes = array<i64: 0, 1, 2>} : (tensor<2x5x4x32xf32>) -> tensor<32xf32>
  %n = "keras.full"() {dtype = "f32", shape = array<i64>, value = 4.0e+01 : f64} : () -> tensor<f32>
  %m = "keras.div"(%s, %n) : (tensor<32xf32>, tensor<f32>) -> tensor<32xf32>
  %q = "keras.mul"(%a, %a) : (tensor<2x5x4x32xf32>, tensor<2x5x4x32xf32>) -> tensor<2x5x4x32xf32>
  %t = "keras.sum"(%q) {axes = array<i64: 0, 1, 2>} : (tensor<2x5x4x32xf32>) -> tensor<32xf32>
  %u = "keras.div"(%t, %n) : (tensor<32xf32>, tensor<f32>) -> tensor<32xf32>
  %one = "keras.full"() {dtype = "f32", shape = array<i64>, value = 1.0 : f64} : () -> tensor<f32>
  %e = "keras.add"(%u, %one) : (tensor<32xf32>, tensor<f32>) -> tensor<32xf32>
  %r = "keras.rsqrt"(%e) : (tensor<32xf32>) -> tensor<32xf32>
  %mc = "keras.reshape"(%m) {shape = array<i64: 1, 1, 1, 32>} : (tensor<32xf32>) -> tensor<1x1x1x32xf32>
  %rc = "keras.reshape"(%r) {shape = array<i64: 1, 1, 1, 32>} : (tensor<32xf32>) -> tensor<1x1x1x32xf32>
  %d = "keras.sub"(%a, %mc) : (tensor<2x5x4x32xf32>, tensor<1x1x1x32xf32>) -> tensor<2x5x4x32xf32>
  %p = "keras.mul"(%d, %rc) : (tensor<2x5x4x32xf32>, tensor<1x1x1x32xf32>) -> tensor<2x5x4x32xf32>
  %b = "keras.cast"(%p) {dtype = "bf16"} : (tensor<2x5x4x32xf32>) -> tensor<2x5x4x32xbf16>
  %z = "keras.relu"(%b) : (tensor<2x5x4x32xbf16>) -> tensor<2x5x4x32xbf16>
  %out = "keras.conv2d"(%z, %w) {pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, groups = 1 : i64} : (tensor<2x5x4x32xbf16>, tensor<3x3x32x24xbf16>) -> tensor<2x5x4x24xbf16>
  %dw = "keras.conv2d_kernel_grad"(%g, %z) {pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, groups = 1 : i64, shape = array<i64: 3, 3, 32, 24>}
      : (tensor<2x5x4x24xbf16>, tensor<2x5x4x32xbf16>) -> tensor<3x3x32x24xbf16>
  return %out, %dw, %m : tensor<2x5x4x24xbf16>, tensor<3x3x32x24xbf16>, tensor<32xf32>
}
}
