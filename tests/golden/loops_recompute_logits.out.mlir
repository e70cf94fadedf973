module attributes {keras.stage = "keras"} {
  func.func private @while0(tensor<i64>, tensor<2x4xf32>) -> (tensor<i64>, tensor<2x4xf32>) attributes {keras.while = {body = @while0_body, condition = @while0_condition}}
  func.func private @while0_condition(%arg0: tensor<i64>, %arg1: tensor<2x4xf32>) -> tensor<i1> {
    %0 = "keras.full"() {dtype = "i64", shape = array<i64>, value = 4 : i64} : () -> tensor<i64>
    %1 = "keras.lt"(%arg0, %0) : (tensor<i64>, tensor<i64>) -> tensor<i1>
    return %1 : tensor<i1>
  }
  func.func private @while0_body(%arg0: tensor<i64>, %arg1: tensor<2x4xf32>) -> (tensor<i64>, tensor<2x4xf32>) {
    %0 = "keras.full"() {dtype = "i64", shape = array<i64>, value = 1 : i64} : () -> tensor<i64>
    %1 = "keras.add"(%arg0, %0) : (tensor<i64>, tensor<i64>) -> tensor<i64>
    %2 = "keras.tanh"(%arg1) : (tensor<2x4xf32>) -> tensor<2x4xf32>
    return %1, %2 : tensor<i64>, tensor<2x4xf32>
  }
  func.func private @scan0(tensor<2x4xf32>, tensor<3x2x8xf32>, tensor<4x8xf32>) -> (tensor<2x4xf32>, tensor<3x2x4xf32>, tensor<3x2x4xf32>) attributes {keras.scan = {body = @scan0_body, carries = 1 : i64, length = 3 : i64, reverse = false, scanned = 1 : i64}}
  func.func private @scan0_body(%arg0: tensor<2x4xf32>, %arg1: tensor<2x8xf32>, %arg2: tensor<4x8xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>) {
    %0 = "keras.matmul"(%arg0, %arg2) {transpose_a = false, transpose_b = false} : (tensor<2x4xf32>, tensor<4x8xf32>) -> tensor<2x8xf32>
    %1 = "keras.add"(%arg1, %0) : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
    %2 = "keras.slice"(%1) {limits = array<i64: 2, 4>, starts = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<2x8xf32>) -> tensor<2x4xf32>
    %3 = "keras.slice"(%1) {limits = array<i64: 2, 8>, starts = array<i64: 0, 4>, strides = array<i64: 1, 1>} : (tensor<2x8xf32>) -> tensor<2x4xf32>
    %4 = "keras.sigmoid"(%2) : (tensor<2x4xf32>) -> tensor<2x4xf32>
    %5 = "keras.mul"(%4, %3) : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
    return %5, %arg0, %5 : tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>
  }
  func.func @main(%arg0: tensor<3x2x8xf32> {keras.name = "data/x"}, %arg1: tensor<4x8xf32> {keras.name = "rnn/kernel"}, %arg2: tensor<i64> {keras.donated = 1 : i64, keras.name = "search/count"}) -> (tensor<3x2x4xf32>, tensor<i64>, tensor<3x2x4xf32>, tensor<2x4xf32>) {
    %0 = "keras.full"() {dtype = "f32", shape = array<i64: 2, 4>, value = 0.000000e+00 : f64} : () -> tensor<2x4xf32>
    %1:3 = call @scan0(%0, %arg0, %arg1) : (tensor<2x4xf32>, tensor<3x2x8xf32>, tensor<4x8xf32>) -> (tensor<2x4xf32>, tensor<3x2x4xf32>, tensor<3x2x4xf32>)
    %2:2 = call @while0(%arg2, %1#0) : (tensor<i64>, tensor<2x4xf32>) -> (tensor<i64>, tensor<2x4xf32>)
    %3 = "keras.add"(%1#1, %1#2) : (tensor<3x2x4xf32>, tensor<3x2x4xf32>) -> tensor<3x2x4xf32>
    return %3, %2#0, %1#2, %2#1 : tensor<3x2x4xf32>, tensor<i64>, tensor<3x2x4xf32>, tensor<2x4xf32>
  }
}
