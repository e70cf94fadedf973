module attributes {keras.stage = "keras"} {
  func.func private @while0(tensor<i64>, tensor<2x4xf32>) -> (tensor<i64>, tensor<2x4xf32>)
      attributes {keras.while = {condition = @while0_condition, body = @while0_body}}
  func.func private @while0_condition(%n: tensor<i64>, %h: tensor<2x4xf32>) -> tensor<i1> {
    %four = "keras.full"() {value = 4 : i64, shape = array<i64>, dtype = "i64"} : () -> tensor<i64>
    %0 = "keras.lt"(%n, %four) : (tensor<i64>, tensor<i64>) -> tensor<i1> loc("search")
    return %0 : tensor<i1>
  }
  func.func private @while0_body(%n: tensor<i64>, %h: tensor<2x4xf32>) -> (tensor<i64>, tensor<2x4xf32>) {
    %one = "keras.full"() {value = 1 : i64, shape = array<i64>, dtype = "i64"} : () -> tensor<i64>
    %0 = "keras.add"(%n, %one) : (tensor<i64>, tensor<i64>) -> tensor<i64> loc("search")
    %1 = "keras.tanh"(%h) : (tensor<2x4xf32>) -> tensor<2x4xf32> loc("search")
    return %0, %1 : tensor<i64>, tensor<2x4xf32>
  }
  func.func private @scan0(tensor<2x4xf32>, tensor<3x2x8xf32>, tensor<4x8xf32>) -> (tensor<2x4xf32>, tensor<3x2x4xf32>, tensor<3x2x4xf32>)
      attributes {keras.scan = {body = @scan0_body, carries = 1 : i64, scanned = 1 : i64, length = 3 : i64, reverse = false}}
  func.func private @scan0_body(%h: tensor<2x4xf32>, %x: tensor<2x8xf32>, %u: tensor<4x8xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>) {
    %0 = "keras.matmul"(%h, %u) {transpose_a = false, transpose_b = false} : (tensor<2x4xf32>, tensor<4x8xf32>) -> tensor<2x8xf32> loc("rnn")
    %1 = "keras.add"(%x, %0) : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32> loc("rnn")
    %2 = "keras.slice"(%1) {starts = array<i64: 0, 0>, limits = array<i64: 2, 4>, strides = array<i64: 1, 1>} : (tensor<2x8xf32>) -> tensor<2x4xf32> loc("rnn")
    %3 = "keras.slice"(%1) {starts = array<i64: 0, 4>, limits = array<i64: 2, 8>, strides = array<i64: 1, 1>} : (tensor<2x8xf32>) -> tensor<2x4xf32> loc("rnn")
    %4 = "keras.sigmoid"(%2) : (tensor<2x4xf32>) -> tensor<2x4xf32> loc("rnn")
    %5 = "keras.mul"(%4, %3) : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32> loc("rnn")
    return %5, %h, %5 : tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>
  }
  func.func @main(%x: tensor<3x2x8xf32> {keras.name = "data/x"}, %u: tensor<4x8xf32> {keras.name = "rnn/kernel"}, %n: tensor<i64> {keras.donated = 1 : i64, keras.name = "search/count"})
      -> (tensor<3x2x4xf32>, tensor<i64>, tensor<3x2x4xf32>, tensor<2x4xf32>) {
    %zero = "keras.full"() {value = 0.0 : f64, shape = array<i64: 2, 4>, dtype = "f32"} : () -> tensor<2x4xf32>
    %0:3 = call @scan0(%zero, %x, %u) : (tensor<2x4xf32>, tensor<3x2x8xf32>, tensor<4x8xf32>) -> (tensor<2x4xf32>, tensor<3x2x4xf32>, tensor<3x2x4xf32>) loc("rnn")
    %1:2 = call @while0(%n, %0#0) : (tensor<i64>, tensor<2x4xf32>) -> (tensor<i64>, tensor<2x4xf32>) loc("search")
    %2 = "keras.add"(%0#1, %0#2) : (tensor<3x2x4xf32>, tensor<3x2x4xf32>) -> tensor<3x2x4xf32> loc("add")
    return %2, %1#0, %0#2, %1#1 : tensor<3x2x4xf32>, tensor<i64>, tensor<3x2x4xf32>, tensor<2x4xf32>
  }
}
