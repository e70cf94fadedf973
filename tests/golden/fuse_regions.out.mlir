#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> (d1)>
#map2 = affine_map<(d0, d1) -> ()>
#map3 = affine_map<(d0, d1) -> (d1, d0)>
#map4 = affine_map<(d0, d1) -> (d0)>
#map5 = affine_map<(d0) -> (d0)>
#map6 = affine_map<(d0) -> ()>
module attributes {keras.stage = "regions"} {
  func.func private @dense_matmul_add_relu_gt_0(%arg0: tensor<4x3xf32>, %arg1: tensor<3x2xf32>, %arg2: tensor<2xf32>) -> (tensor<4x2xf32>, tensor<4x2xi1>) attributes {keras.kernel = "matmul", keras.layers = ["model/dense"]} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = false, transpose_b = false} : (tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32>
    %1 = tensor.empty() : tensor<4x2xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%0, %arg2 : tensor<4x2xf32>, tensor<2xf32>) outs(%1 : tensor<4x2xf32>) attrs =  {keras.op = "relu"} {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %5 = arith.addf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
      %cst = arith.constant 0.000000e+00 : f32
      %6 = arith.maximumf %5, %cst fastmath<reassoc,nsz,contract> : f32
      linalg.yield %6 : f32
    } -> tensor<4x2xf32>
    %3 = tensor.empty() : tensor<4x2xi1>
    %4 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%2 : tensor<4x2xf32>) outs(%3 : tensor<4x2xi1>) attrs =  {keras.op = "gt"} {
    ^bb0(%in: f32, %out: i1):
      %cst = arith.constant 0.000000e+00 : f32
      %5 = arith.cmpf ogt, %in, %cst : f32
      linalg.yield %5 : i1
    } -> tensor<4x2xi1>
    return %2, %4 : tensor<4x2xf32>, tensor<4x2xi1>
  }
  func.func private @softmax_softmax_1(%arg0: tensor<4x2xf32>) -> tensor<4x2xf32> attributes {keras.kernel = "softmax", keras.layers = ["model/softmax"], keras.reason = ["dense_matmul_add_relu_gt_0: stored: softmax loads its operand x as it is"]} {
    %0 = "keras.softmax"(%arg0) : (tensor<4x2xf32>) -> tensor<4x2xf32>
    return %0 : tensor<4x2xf32>
  }
  func.func private @loss_sum_2(%arg0: tensor<4x2xf32>) -> tensor<f32> attributes {keras.kernel = "loop", keras.layers = ["loss"], keras.reason = ["softmax_softmax_1: takes no epilogue"]} {
    %0 = tensor.empty() : tensor<f32>
    %cst = arith.constant 0.000000e+00 : f32
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<f32>) -> tensor<f32>
    %2 = linalg.generic {indexing_maps = [#map, #map2], iterator_types = ["reduction", "reduction"]} ins(%arg0 : tensor<4x2xf32>) outs(%1 : tensor<f32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: f32, %out: f32):
      %3 = arith.addf %out, %in fastmath<reassoc,nsz,contract> : f32
      linalg.yield %3 : f32
    } -> tensor<f32>
    return %2 : tensor<f32>
  }
  func.func private @dense_select_sum_3(%arg0: tensor<4x2xi1>, %arg1: tensor<4x2xf32>) -> tensor<2xf32> attributes {keras.kernel = "loop", keras.layers = ["model/dense"], keras.reason = ["dense_matmul_add_relu_gt_0: would make a cycle", "softmax_softmax_1: takes no epilogue"]} {
    %0 = tensor.empty() : tensor<2xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<2xf32>) -> tensor<2xf32>
    %2 = linalg.generic {indexing_maps = [#map3, #map3, #map4], iterator_types = ["parallel", "reduction"]} ins(%arg0, %arg1 : tensor<4x2xi1>, tensor<4x2xf32>) outs(%1 : tensor<2xf32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: i1, %in_0: f32, %out: f32):
      %cst_1 = arith.constant 0.000000e+00 : f32
      %3 = arith.select %in, %in_0, %cst_1 : f32
      %4 = arith.addf %out, %3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %4 : f32
    } -> tensor<2xf32>
    return %2 : tensor<2xf32>
  }
  func.func private @dense_matmul_select_4(%arg0: tensor<4x2xi1>, %arg1: tensor<4x2xf32>, %arg2: tensor<4x3xf32>) -> tensor<3x2xf32> attributes {keras.kernel = "matmul", keras.layers = ["model/dense"], keras.reason = ["dense_matmul_add_relu_gt_0: stored: to make it again moves 266 % of what it moves so"]} {
    %0 = tensor.empty() : tensor<4x2xf32>
    %1 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %arg1 : tensor<4x2xi1>, tensor<4x2xf32>) outs(%0 : tensor<4x2xf32>) attrs =  {keras.op = "select"} {
    ^bb0(%in: i1, %in_0: f32, %out: f32):
      %cst = arith.constant 0.000000e+00 : f32
      %3 = arith.select %in, %in_0, %cst : f32
      linalg.yield %3 : f32
    } -> tensor<4x2xf32>
    %2 = "keras.matmul"(%arg2, %1) {transpose_a = true, transpose_b = false} : (tensor<4x3xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
    return %2 : tensor<3x2xf32>
  }
  func.func private @optimizer_mul_sub_add_5(%arg0: tensor<3x2xf32>, %arg1: tensor<3x2xf32>, %arg2: tensor<f32>, %arg3: tensor<3x2xf32>) -> (tensor<3x2xf32>, tensor<3x2xf32>) attributes {keras.kernel = "loop", keras.layers = ["optimizer"], keras.reason = ["dense_matmul_select_4: kept apart so that the updates of all parameters make one kernel"]} {
    %0 = tensor.empty() : tensor<3x2xf32>
    %1 = linalg.generic {indexing_maps = [#map, #map, #map2, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %arg1, %arg2 : tensor<3x2xf32>, tensor<3x2xf32>, tensor<f32>) outs(%0 : tensor<3x2xf32>) attrs =  {keras.op = "sub"} {
    ^bb0(%in: f32, %in_0: f32, %in_1: f32, %out: f32):
      %cst = arith.constant 0.899999976 : f32
      %4 = arith.mulf %in, %cst fastmath<reassoc,nsz,contract> : f32
      %5 = arith.mulf %in_0, %in_1 fastmath<reassoc,nsz,contract> : f32
      %6 = arith.subf %4, %5 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %6 : f32
    } -> tensor<3x2xf32>
    %2 = tensor.empty() : tensor<3x2xf32>
    %3 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg3, %1 : tensor<3x2xf32>, tensor<3x2xf32>) outs(%2 : tensor<3x2xf32>) attrs =  {keras.op = "add"} {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %4 = arith.addf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %4 : f32
    } -> tensor<3x2xf32>
    return %1, %3 : tensor<3x2xf32>, tensor<3x2xf32>
  }
  func.func private @optimizer_mul_sub_add_6(%arg0: tensor<2xf32>, %arg1: tensor<2xf32>, %arg2: tensor<f32>, %arg3: tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>) attributes {keras.kernel = "loop", keras.layers = ["optimizer"], keras.reason = ["dense_select_sum_3: kept apart so that the updates of all parameters make one kernel"]} {
    %0 = tensor.empty() : tensor<2xf32>
    %1 = linalg.generic {indexing_maps = [#map5, #map5, #map6, #map5], iterator_types = ["parallel"]} ins(%arg0, %arg1, %arg2 : tensor<2xf32>, tensor<2xf32>, tensor<f32>) outs(%0 : tensor<2xf32>) attrs =  {keras.op = "sub"} {
    ^bb0(%in: f32, %in_0: f32, %in_1: f32, %out: f32):
      %cst = arith.constant 0.899999976 : f32
      %4 = arith.mulf %in, %cst fastmath<reassoc,nsz,contract> : f32
      %5 = arith.mulf %in_0, %in_1 fastmath<reassoc,nsz,contract> : f32
      %6 = arith.subf %4, %5 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %6 : f32
    } -> tensor<2xf32>
    %2 = tensor.empty() : tensor<2xf32>
    %3 = linalg.generic {indexing_maps = [#map5, #map5, #map5], iterator_types = ["parallel"]} ins(%arg3, %1 : tensor<2xf32>, tensor<2xf32>) outs(%2 : tensor<2xf32>) attrs =  {keras.op = "add"} {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %4 = arith.addf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %4 : f32
    } -> tensor<2xf32>
    return %1, %3 : tensor<2xf32>, tensor<2xf32>
  }
  func.func @main(%arg0: tensor<4x3xf32> {keras.name = "x"}, %arg1: tensor<3x2xf32> {keras.donated = 1 : i64, keras.name = "w"}, %arg2: tensor<2xf32> {keras.donated = 2 : i64, keras.name = "b"}, %arg3: tensor<3x2xf32> {keras.donated = 3 : i64, keras.name = "mw"}, %arg4: tensor<2xf32> {keras.donated = 4 : i64, keras.name = "mb"}, %arg5: tensor<f32> {keras.name = "rate"}) -> (tensor<f32>, tensor<3x2xf32>, tensor<2xf32>, tensor<3x2xf32>, tensor<2xf32>) {
    %0:2 = call @dense_matmul_add_relu_gt_0(%arg0, %arg1, %arg2) : (tensor<4x3xf32>, tensor<3x2xf32>, tensor<2xf32>) -> (tensor<4x2xf32>, tensor<4x2xi1>)
    %1 = call @softmax_softmax_1(%0#0) : (tensor<4x2xf32>) -> tensor<4x2xf32>
    %2 = call @loss_sum_2(%1) : (tensor<4x2xf32>) -> tensor<f32>
    %3 = call @dense_select_sum_3(%0#1, %1) : (tensor<4x2xi1>, tensor<4x2xf32>) -> tensor<2xf32>
    %4 = call @dense_matmul_select_4(%0#1, %1, %arg0) : (tensor<4x2xi1>, tensor<4x2xf32>, tensor<4x3xf32>) -> tensor<3x2xf32>
    %5:2 = call @optimizer_mul_sub_add_5(%arg3, %4, %arg5, %arg1) : (tensor<3x2xf32>, tensor<3x2xf32>, tensor<f32>, tensor<3x2xf32>) -> (tensor<3x2xf32>, tensor<3x2xf32>)
    %6:2 = call @optimizer_mul_sub_add_6(%arg4, %3, %arg5, %arg2) : (tensor<2xf32>, tensor<2xf32>, tensor<f32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
    return %2, %5#1, %6#1, %5#0, %6#0 : tensor<f32>, tensor<3x2xf32>, tensor<2xf32>, tensor<3x2xf32>, tensor<2xf32>
  }
}
