// A pooled rectifier and what is summed of its gradient, g being one number for each image and channel.
module attributes {keras.stage = "keras"} {
  func.func @main(%x: tensor<2x3x4x5xf32> {keras.name = "x"}, %d: tensor<2x3x4x5xf32> {keras.name = "d"}) -> (tensor<2x5xf32>, tensor<5xf32>, tensor<5xf32>, tensor<5xf32>) {
    %zero = "keras.full"() {dtype = "f32", shape = array<i64>, value = 0.0 : f64} : () -> tensor<f32>
    %y = "keras.relu"(%x) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32> loc("model/relu")
    %p = "keras.sum"(%y) {axes = array<i64: 1, 2>} : (tensor<2x3x4x5xf32>) -> tensor<2x5xf32> loc("model/pool")
    %g = "keras.rsqrt"(%p) : (tensor<2x5xf32>) -> tensor<2x5xf32> loc("model/loss")
    %a = "keras.broadcast_in_dim"(%g) {dims = array<i64: 0, 3>, shape = array<i64: 2, 3, 4, 5>} : (tensor<2x5xf32>) -> tensor<2x3x4x5xf32> loc("model/pool")
    %off = "keras.le"(%y, %zero) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xi1> loc("model/relu")
    %b = "keras.select"(%off, %zero, %a) : (tensor<2x3x4x5xi1>, tensor<f32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32> loc("model/relu")
    %s = "keras.sum"(%b) {axes = array<i64: 0, 1, 2>} : (tensor<2x3x4x5xf32>) -> tensor<5xf32> loc("model/norm")
    %c = "keras.mul"(%b, %x) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32> loc("model/norm")
    %n = "keras.neg"(%c) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32> loc("model/norm")
    %t = "keras.sum"(%n) {axes = array<i64: 0, 1, 2>} : (tensor<2x3x4x5xf32>) -> tensor<5xf32> loc("model/norm")
    // What is not there before g stays as it is.
    %e = "keras.mul"(%b, %d) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32> loc("model/other")
    %h = "keras.exp"(%e) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32> loc("model/other")
    %k = "keras.mul"(%h, %a) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32> loc("model/other")
    %u = "keras.sum"(%k) {axes = array<i64: 0, 1, 2>} : (tensor<2x3x4x5xf32>) -> tensor<5xf32> loc("model/other")
    return %p, %s, %t, %u : tensor<2x5xf32>, tensor<5xf32>, tensor<5xf32>, tensor<5xf32>
  }
}
