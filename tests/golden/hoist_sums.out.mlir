module attributes {keras.stage = "keras"} {
  func.func private @scan0(tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<4x2x3xf32>, tensor<5x5xf32>) -> (tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<4x2x5xf32>, tensor<4x2x5xf32>) attributes {keras.scan = {body = @scan0_body, carries = 3 : i64, length = 4 : i64, reverse = true, scanned = 1 : i64}}
  func.func private @scan0_body(%arg0: tensor<2x5xf32>, %arg1: tensor<3x5xf32>, %arg2: tensor<5xf32>, %arg3: tensor<2x3xf32>, %arg4: tensor<5x5xf32>) -> (tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<2x5xf32>, tensor<2x5xf32>) {
    %0 = "keras.matmul"(%arg0, %arg4) {transpose_a = false, transpose_b = false} : (tensor<2x5xf32>, tensor<5x5xf32>) -> tensor<2x5xf32>
    %1 = "keras.tanh"(%0) : (tensor<2x5xf32>) -> tensor<2x5xf32>
    %2 = "keras.matmul"(%arg3, %1) {transpose_a = true, transpose_b = false} : (tensor<2x3xf32>, tensor<2x5xf32>) -> tensor<3x5xf32>
    %3 = "keras.add"(%arg1, %2) : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
    %4 = "keras.sum"(%1) {axes = array<i64: 0>} : (tensor<2x5xf32>) -> tensor<5xf32>
    %5 = "keras.add"(%4, %arg2) : (tensor<5xf32>, tensor<5xf32>) -> tensor<5xf32>
    return %1, %3, %5, %arg0, %1 : tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<2x5xf32>, tensor<2x5xf32>
  }
  func.func @main(%arg0: tensor<2x5xf32> {keras.name = "data/g"}, %arg1: tensor<5xf32> {keras.name = "data/b"}, %arg2: tensor<4x2x3xf32> {keras.name = "data/x"}, %arg3: tensor<5x5xf32> {keras.name = "rnn/kernel"}) -> (tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<4x2x5xf32>) {
    %0 = "keras.full"() {dtype = "f32", shape = array<i64: 3, 5>, value = 0.000000e+00 : f64} : () -> tensor<3x5xf32>
    %1:5 = call @scan0(%arg0, %0, %arg1, %arg2, %arg3) : (tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<4x2x3xf32>, tensor<5x5xf32>) -> (tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<4x2x5xf32>, tensor<4x2x5xf32>)
    %2 = "keras.reshape"(%1#4) {shape = array<i64: 8, 5>} : (tensor<4x2x5xf32>) -> tensor<8x5xf32>
    %3 = "keras.sum"(%2) {axes = array<i64: 0>} : (tensor<8x5xf32>) -> tensor<5xf32>
    %4 = "keras.add"(%arg1, %3) : (tensor<5xf32>, tensor<5xf32>) -> tensor<5xf32>
    %5 = "keras.reshape"(%arg2) {shape = array<i64: 8, 3>} : (tensor<4x2x3xf32>) -> tensor<8x3xf32>
    %6 = "keras.reshape"(%1#4) {shape = array<i64: 8, 5>} : (tensor<4x2x5xf32>) -> tensor<8x5xf32>
    %7 = "keras.matmul"(%5, %6) {transpose_a = true, transpose_b = false} : (tensor<8x3xf32>, tensor<8x5xf32>) -> tensor<3x5xf32>
    return %1#0, %7, %4, %1#3 : tensor<2x5xf32>, tensor<3x5xf32>, tensor<5xf32>, tensor<4x2x5xf32>
  }
}
