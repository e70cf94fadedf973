module attributes {keras.stage = "keras"} {
  func.func private @scan0(tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<4x2x3xf32>, tensor<5x5xf32>)
      -> (tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<4x2x5xf32>)
      attributes {keras.scan = {body = @scan0_body, carries = 3 : i64, scanned = 1 : i64, length = 4 : i64, reverse = true}}
  func.func private @scan0_body(%g: tensor<2x5xf32>, %dw: tensor<3x5xf32>, %db: tensor<5xf32>, %x: tensor<2x3xf32>, %u: tensor<5x5xf32>)
      -> (tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<2x5xf32>) {
    %0 = "keras.matmul"(%g, %u) {transpose_a = false, transpose_b = false} : (tensor<2x5xf32>, tensor<5x5xf32>) -> tensor<2x5xf32> loc("rnn/grad")
    %1 = "keras.tanh"(%0) : (tensor<2x5xf32>) -> tensor<2x5xf32> loc("rnn/grad")
    %2 = "keras.matmul"(%x, %1) {transpose_a = true, transpose_b = false} : (tensor<2x3xf32>, tensor<2x5xf32>) -> tensor<3x5xf32> loc("rnn/grad")
    %3 = "keras.add"(%dw, %2) : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32> loc("rnn/grad")
    %4 = "keras.sum"(%1) {axes = array<i64: 0>} : (tensor<2x5xf32>) -> tensor<5xf32> loc("rnn/grad")
    %5 = "keras.add"(%4, %db) : (tensor<5xf32>, tensor<5xf32>) -> tensor<5xf32> loc("rnn/grad")
    return %1, %3, %5, %g : tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<2x5xf32>
  }
  func.func @main(%g: tensor<2x5xf32> {keras.name = "data/g"}, %b: tensor<5xf32> {keras.name = "data/b"}, %x: tensor<4x2x3xf32> {keras.name = "data/x"}, %u: tensor<5x5xf32> {keras.name = "rnn/kernel"}) -> (tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<4x2x5xf32>) {
    %zero = "keras.full"() {value = 0.0 : f64, shape = array<i64: 3, 5>, dtype = "f32"} : () -> tensor<3x5xf32>
    %0:4 = call @scan0(%g, %zero, %b, %x, %u) : (tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<4x2x3xf32>, tensor<5x5xf32>)
      -> (tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<4x2x5xf32>) loc("rnn")
    return %0#0, %0#1, %0#2, %0#3 : tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<4x2x5xf32>
  }
}
