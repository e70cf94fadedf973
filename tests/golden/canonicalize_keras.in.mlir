module attributes {keras.stage = "keras"} {
  func.func private @ext0(tensor<2x3xf32>) -> tensor<2x3xf32> attributes {keras.extern = {args = "[[{\22t\22: 0}]]", reason = "no dialect op for aten.lgamma.default", target = "aten.lgamma.default"}}
  func.func private @ext1(tensor<2x3xf32>) -> tensor<2x3xf32> attributes {keras.extern = {args = "[[{\22t\22: 0}]]", reason = "no dialect op for aten.erfinv.default", target = "aten.erfinv.default"}}
  func.func @main(%x: tensor<2x3xf32> {keras.name = "data/x"}, %b: tensor<3xf32> {keras.name = "dense/bias", keras.donated = 1 : i64}, %i: tensor<3xi32> {keras.name = "i"}) -> (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf64>, tensor<2x3xf32>, tensor<2x3xf32>) {
    // Equal ops are one, with the layer of the first.
    %e0 = "keras.exp"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32> loc("m/dense")
    %e1 = "keras.exp"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32> loc("m/dense/grad")
    %sum = "keras.add"(%e0, %e1) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32> loc("m/dense")
    // Nobody reads these.
    %dead = "keras.sin"(%sum) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %unread = func.call @ext0(%dead) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %kept = func.call @ext1(%sum) : (tensor<2x3xf32>) -> tensor<2x3xf32> loc("m/erfinv")
    // Two transposes that undo each other, reshapes that do, and a cast through a wider type.
    %t0 = "keras.transpose"(%kept) {permutation = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
    %t1 = "keras.transpose"(%t0) {permutation = array<i64: 1, 0>} : (tensor<3x2xf32>) -> tensor<2x3xf32>
    %r0 = "keras.reshape"(%t1) {shape = array<i64: 6>} : (tensor<2x3xf32>) -> tensor<6xf32>
    %r1 = "keras.reshape"(%r0) {shape = array<i64: 2, 3>} : (tensor<6xf32>) -> tensor<2x3xf32>
    %c0 = "keras.cast"(%i) {dtype = "i64"} : (tensor<3xi32>) -> tensor<3xi64>
    %c1 = "keras.cast"(%c0) {dtype = "f64"} : (tensor<3xi64>) -> tensor<3xf64>
    // Known numbers: 2 * 3 - 5 = 1 is neutral in a product; 0 is not in a sum, since -0.0 + 0 = 0.
    %two = "keras.full"() {value = 2.0 : f64, shape = array<i64>, dtype = "f32"} : () -> tensor<f32>
    %three = "keras.full"() {value = 3.0 : f64, shape = array<i64: 1>, dtype = "f32"} : () -> tensor<1xf32>
    %five = "keras.full"() {value = 5.0 : f64, shape = array<i64>, dtype = "f32"} : () -> tensor<f32>
    %six = "keras.mul"(%two, %three) : (tensor<f32>, tensor<1xf32>) -> tensor<1xf32>
    %one = "keras.sub"(%six, %five) : (tensor<1xf32>, tensor<f32>) -> tensor<1xf32>
    %same = "keras.mul"(%r1, %one) : (tensor<2x3xf32>, tensor<1xf32>) -> tensor<2x3xf32>
    %zero = "keras.sub"(%one, %one) : (tensor<1xf32>, tensor<1xf32>) -> tensor<1xf32>
    %signed = "keras.add"(%same, %zero) : (tensor<2x3xf32>, tensor<1xf32>) -> tensor<2x3xf32>
    %less = "keras.sub"(%signed, %zero) : (tensor<2x3xf32>, tensor<1xf32>) -> tensor<2x3xf32>
    %yes = "keras.lt"(%two, %five) : (tensor<f32>, tensor<f32>) -> tensor<i1>
    %chosen = "keras.select"(%yes, %b, %less) : (tensor<i1>, tensor<3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32> loc("m/select")
    // A value a row stays one until it is spread over its row.
    %total = "keras.sum"(%signed) {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xf32>
    %column = "keras.reshape"(%total) {shape = array<i64: 2, 1>} : (tensor<2xf32>) -> tensor<2x1xf32>
    %mean = "keras.div"(%column, %three) : (tensor<2x1xf32>, tensor<1xf32>) -> tensor<2x1xf32>
    %centred = "keras.sub"(%x, %mean) : (tensor<2x3xf32>, tensor<2x1xf32>) -> tensor<2x3xf32> loc("m/norm")
    return %chosen, %b, %c1, %centred, %less : tensor<2x3xf32>, tensor<3xf32>, tensor<3xf64>, tensor<2x3xf32>, tensor<2x3xf32>
  }
}
