// Rows of a table, scaled, with one step of gradient descent on their sum of squares.
module attributes {keras.stage = "keras"} {
  func.func @main(%t: tensor<5x3xf32> {keras.name = "table", keras.donated = 1 : i64},
                  %i: tensor<2x4xi64> {keras.name = "tokens"},
                  %rate: tensor<f32> {keras.name = "rate"}) -> (tensor<2x3xf32>, tensor<5x3xf32>) {
    %zero = "keras.full"() {value = 0 : i64, shape = array<i64>, dtype = "i64"} : () -> tensor<i64>
    %five = "keras.full"() {value = 5 : i64, shape = array<i64>, dtype = "i64"} : () -> tensor<i64>
    %0 = "keras.lt"(%i, %zero) : (tensor<2x4xi64>, tensor<i64>) -> tensor<2x4xi1> loc("model/embedding")
    %1 = "keras.add"(%i, %five) : (tensor<2x4xi64>, tensor<i64>) -> tensor<2x4xi64> loc("model/embedding")
    %2 = "keras.select"(%0, %1, %i) : (tensor<2x4xi1>, tensor<2x4xi64>, tensor<2x4xi64>) -> tensor<2x4xi64> loc("model/embedding")
    %3 = "keras.gather"(%t, %2) {axis = 0 : i64} : (tensor<5x3xf32>, tensor<2x4xi64>) -> tensor<2x4x3xf32> loc("model/embedding")
    %4 = "keras.sum"(%3) {axes = array<i64: 1>} : (tensor<2x4x3xf32>) -> tensor<2x3xf32> loc("model/pooling")
    %5 = "keras.add"(%3, %3) : (tensor<2x4x3xf32>, tensor<2x4x3xf32>) -> tensor<2x4x3xf32> loc("model/embedding/grad")
    %6 = "keras.scatter"(%5, %2) {rows = 5 : i64, fold = "sum"} : (tensor<2x4x3xf32>, tensor<2x4xi64>) -> tensor<5x3xf32> loc("model/embedding/grad")
    %7 = "keras.mul"(%6, %rate) : (tensor<5x3xf32>, tensor<f32>) -> tensor<5x3xf32> loc("optimizer")
    %8 = "keras.sub"(%t, %7) : (tensor<5x3xf32>, tensor<5x3xf32>) -> tensor<5x3xf32> loc("optimizer")
    return %4, %8 : tensor<2x3xf32>, tensor<5x3xf32>
  }
}
