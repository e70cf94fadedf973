module attributes {keras.stage = "keras"} {
  func.func private @scan0(tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<3x4xf32>, tensor<3x4xf32>, tensor<4xf32>, tensor<4xf32>)
      -> (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<3x4xf32>, tensor<3x4xf32>)
      attributes {keras.scan = {body = @scan0_body, carries = 3 : i64, scanned = 2 : i64, length = 3 : i64, reverse = false}}
  func.func private @scan0_body(%h: tensor<4xf32>, %fixed: tensor<4xf32>, %dead: tensor<4xf32>, %x: tensor<4xf32>, %again: tensor<4xf32>, %one: tensor<4xf32>, %unread: tensor<4xf32>)
      -> (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) {
    %0 = "keras.mul"(%x, %again) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("rnn")
    %1 = "keras.mul"(%0, %one) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("rnn")
    %2 = "keras.add"(%1, %fixed) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("rnn")
    %3 = "keras.add"(%h, %2) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("rnn")
    %4 = "keras.add"(%dead, %unread) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("rnn")
    return %3, %fixed, %4, %3, %4 : tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>
  }
  func.func @main(%h: tensor<4xf32> {keras.name = "data/h"}, %fixed: tensor<4xf32> {keras.name = "data/fixed"}, %x: tensor<3x4xf32> {keras.name = "data/x"}) -> (tensor<4xf32>, tensor<3x4xf32>) {
    %one = "keras.full"() {value = 1.0 : f64, shape = array<i64: 4>, dtype = "f32"} : () -> tensor<4xf32>
    %0:5 = call @scan0(%h, %fixed, %h, %x, %x, %one, %h) : (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<3x4xf32>, tensor<3x4xf32>, tensor<4xf32>, tensor<4xf32>)
      -> (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<3x4xf32>, tensor<3x4xf32>) loc("rnn")
    %1 = "keras.add"(%0#0, %0#1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("rnn")
    return %1, %0#3 : tensor<4xf32>, tensor<3x4xf32>
  }
}
